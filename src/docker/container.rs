//! A container as `docker inspect` tells it.

use super::specification::RestartPolicy;
use serde_json::Value;

/// One container at the moment it was asked for.
#[derive(Debug, Clone)]
pub struct Container {
    inspect: Value,
}

impl Container {
    /// Wraps the answer of `GET /containers/ID/json`.
    pub fn new(inspect: Value) -> Self {
        Self { inspect }
    }

    /// The whole answer.
    pub fn inspect(&self) -> &Value {
        &self.inspect
    }

    /// 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        self.text("/Id")
    }

    /// The name without the slash that Docker puts in front.
    pub fn name(&self) -> &str {
        self.text("/Name").trim_start_matches('/')
    }

    /// The image as it was named at creation.
    pub fn image(&self) -> &str {
        self.text("/Config/Image")
    }

    /// The image's content id (`sha256:...`).
    pub fn image_id(&self) -> &str {
        self.text("/Image")
    }

    /// The first process's pid on the host; `None` unless the container runs or is paused.
    pub fn pid(&self) -> Option<i32> {
        let pid = self.inspect.pointer("/State/Pid")?.as_i64()?;
        i32::try_from(pid).ok().filter(|pid| *pid > 0)
    }

    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub fn status(&self) -> &str {
        self.text("/State/Status")
    }

    /// The host name that it was given.
    pub fn hostname(&self) -> &str {
        self.text("/Config/Hostname")
    }

    /// Whether its processes run.
    pub fn is_running(&self) -> bool {
        self.status() == "running"
    }

    /// Whether it was started and has not been stopped, be it paused or between two tries.
    pub fn is_up(&self) -> bool {
        matches!(self.status(), "running" | "paused" | "restarting")
    }

    /// Whether Docker deletes the container when it stops (`--rm`).
    pub fn removes_itself(&self) -> bool {
        self.inspect.pointer("/HostConfig/AutoRemove").and_then(Value::as_bool).unwrap_or_default()
    }

    /// Whether it has a terminal (`-t`).
    pub fn has_terminal(&self) -> bool {
        self.inspect.pointer("/Config/Tty").and_then(Value::as_bool).unwrap_or_default()
    }

    /// What Docker does when it stops by itself.
    pub fn restart_policy(&self) -> RestartPolicy {
        self.inspect
            .pointer("/HostConfig/RestartPolicy")
            .and_then(|policy| serde_json::from_value(policy.clone()).ok())
            .unwrap_or_default()
    }

    /// The seconds that it is given to end by itself, where that was asked for (`--stop-timeout`); below 0 for no limit.
    pub fn stop_timeout(&self) -> Option<i64> {
        self.inspect.pointer("/Config/StopTimeout")?.as_i64()
    }

    /// The container whose network namespace this one uses (`--network container:X`), as Docker stores it: by id.
    pub fn shares_network_of(&self) -> Option<&str> {
        self.text("/HostConfig/NetworkMode").strip_prefix("container:")
    }

    /// The containers whose IPC or pid namespace this one uses (`--ipc container:X`, `--pid container:X`), by id.
    pub fn shares_namespaces_of(&self) -> impl Iterator<Item = &str> {
        let modes = ["/HostConfig/IpcMode", "/HostConfig/PidMode"].into_iter();
        modes.filter_map(|mode| self.text(mode).strip_prefix("container:"))
    }

    /// Whether one of the two uses a network, IPC or pid namespace of the other's.
    pub fn shares_namespace_with(&self, other: &Self) -> bool {
        let uses = |one: &Self, of: &Self| {
            one.shares_network_of().into_iter().chain(one.shares_namespaces_of()).any(|id| id == of.id())
        };
        uses(self, other) || uses(other, self)
    }

    /// The writable layer on disk, where the storage driver has one to name (overlay2).
    pub fn upper_directory(&self) -> Option<&str> {
        self.inspect.pointer("/GraphDriver/Data/UpperDir")?.as_str()
    }

    /// What is mounted, each as Docker tells it.
    pub fn mounts(&self) -> impl Iterator<Item = &Value> {
        self.inspect.pointer("/Mounts").and_then(Value::as_array).into_iter().flatten()
    }

    /// Whether the health check passes; `None` where there is none.
    pub fn health(&self) -> Option<&str> {
        self.inspect.pointer("/State/Health/Status")?.as_str()
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.inspect.pointer("/Config/Labels")?.get(name)?.as_str()
    }

    fn text(&self, pointer: &str) -> &str {
        self.inspect.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}
