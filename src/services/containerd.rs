//! dockerd, and the containerd that it uses: a child of its own, or the system's service.

/// The pid of the containerd that dockerd uses.
pub fn pid() -> Option<i32> {
    child_pid().or_else(|| first_called("containerd"))
}

/// The pid of dockerd.
pub fn pid_of_dockerd() -> Option<i32> {
    noted("/run/docker.pid", "dockerd").or_else(|| first_called("dockerd"))
}

fn first_called(name: &str) -> Option<i32> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let mut pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| is_called(*pid, name))
}

/// The pids of dockerd and of the containerd that it has started itself; none where containerd is a service of its own.
pub fn of_dockerd() -> Option<(i32, i32)> {
    let containerd = child_pid()?;
    let status = std::fs::read_to_string(format!("/proc/{containerd}/status")).ok()?;
    let dockerd = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())?;
    // A containerd that has outlived its dockerd is somebody else's child.
    is_called(dockerd, "dockerd").then_some((dockerd, containerd))
}

/// Where dockerd notes it (moby's `supervisor/remote_daemon.go`).
fn child_pid() -> Option<i32> {
    noted("/run/docker/containerd/containerd.pid", "containerd")
}

fn noted(file: &str, name: &str) -> Option<i32> {
    let noted = std::fs::read_to_string(file).ok()?;
    noted.trim().parse().ok().filter(|pid| is_called(*pid, name))
}

fn is_called(pid: i32, name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|found| found.trim() == name)
}
