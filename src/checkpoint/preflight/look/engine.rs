//! The engine's description of a container, as `docker inspect` gives it.

use serde_json::Value;

use super::LookError;
use crate::checkpoint::preflight::facts::{EngineFacts, EngineMount};
use crate::docker::TASK_LABEL;

/// The facts in one object of `docker inspect`'s answer.
pub(super) fn facts(inspect: &Value) -> Result<EngineFacts, LookError> {
    let id = text(inspect, "/Id");
    if id.is_empty() {
        return Err(LookError::Inspect { field: "Id" });
    }
    if inspect.pointer("/State/Status").is_none() {
        return Err(LookError::Inspect { field: "State.Status" });
    }
    Ok(EngineFacts {
        id,
        name: text(inspect, "/Name").trim_start_matches('/').to_owned(),
        status: text(inspect, "/State/Status"),
        init_pid: inspect.pointer("/State/Pid").and_then(Value::as_i64).unwrap_or(0) as i32,
        runtime: text(inspect, "/HostConfig/Runtime"),
        storage_driver: text(inspect, "/Driver"),
        auto_remove: flag(inspect, "/HostConfig/AutoRemove"),
        swarm_task: inspect["Config"]["Labels"].get(TASK_LABEL).is_some(),
        restart_policy: text(inspect, "/HostConfig/RestartPolicy/Name"),
        network_mode: text(inspect, "/HostConfig/NetworkMode"),
        pid_mode: text(inspect, "/HostConfig/PidMode"),
        ipc_mode: text(inspect, "/HostConfig/IpcMode"),
        uts_mode: text(inspect, "/HostConfig/UTSMode"),
        privileged: flag(inspect, "/HostConfig/Privileged"),
        tty: flag(inspect, "/Config/Tty"),
        open_stdin: flag(inspect, "/Config/OpenStdin"),
        device_requests: list(inspect, "/HostConfig/DeviceRequests").iter().map(requested_device).collect(),
        devices: list(inspect, "/HostConfig/Devices").iter().map(|d| text(d, "/PathInContainer")).collect(),
        mounts: list(inspect, "/Mounts").iter().map(mount).collect(),
        health_check: health_check(inspect),
        apparmor_profile: text(inspect, "/AppArmorProfile"),
        selinux_label: text(inspect, "/ProcessLabel"),
        addresses: addresses(inspect),
    })
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// `--gpus` leaves the driver empty and asks for the capability `gpu`.
fn requested_device(request: &Value) -> String {
    let driver = text(request, "/Driver");
    if !driver.is_empty() {
        return driver;
    }
    let wanted = list(request, "/Capabilities").iter().filter_map(Value::as_array).flatten();
    wanted.filter_map(Value::as_str).next().unwrap_or("device").to_owned()
}

fn mount(value: &Value) -> EngineMount {
    EngineMount {
        kind: text(value, "/Type"),
        name: text(value, "/Name"),
        source: text(value, "/Source"),
        destination: text(value, "/Destination"),
        driver: text(value, "/Driver"),
        propagation: text(value, "/Propagation"),
    }
}

/// The command line by which the engine runs the check.
fn health_check(inspect: &Value) -> Vec<String> {
    let test: Vec<String> =
        list(inspect, "/Config/Healthcheck/Test").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let Some((kind, command)) = test.split_first() else {
        return Vec::new();
    };
    match kind.as_str() {
        "CMD" => command.to_vec(),
        "CMD-SHELL" => {
            let shell = list(inspect, "/Config/Shell").iter().filter_map(Value::as_str).map(str::to_owned);
            let mut line: Vec<String> = shell.collect();
            if line.is_empty() {
                line = vec!["/bin/sh".to_owned(), "-c".to_owned()];
            }
            line.extend_from_slice(command);
            line
        }
        _ => Vec::new(),
    }
}

fn addresses(inspect: &Value) -> Vec<String> {
    let networks = inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let mut found = Vec::new();
    for network in networks.into_iter().flat_map(|networks| networks.values()) {
        for pointer in ["/IPAddress", "/GlobalIPv6Address"] {
            let address = text(network, pointer);
            if !address.is_empty() {
                found.push(address);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_is_understood() {
        let facts = facts(&json!({
            "Id": "abc", "Name": "/web", "Driver": "overlay2", "AppArmorProfile": "docker-default",
            "State": {"Status": "running", "Pid": 77},
            "Config": {"Tty": true, "Healthcheck": {"Test": ["CMD-SHELL", "curl -f http://localhost"]}},
            "HostConfig": {
                "Runtime": "runc", "AutoRemove": true, "NetworkMode": "container:def",
                "DeviceRequests": [{"Driver": "", "Capabilities": [["gpu"]]}],
                "Devices": [{"PathInContainer": "/dev/fuse"}]
            },
            "Mounts": [{"Type": "volume", "Name": "v", "Driver": "nfs", "Destination": "/data"}],
            "NetworkSettings": {"Networks": {"n": {"IPAddress": "172.20.0.2", "GlobalIPv6Address": ""}}}
        }))
        .unwrap();
        assert_eq!((facts.name.as_str(), facts.init_pid, facts.tty), ("web", 77, true));
        assert_eq!(facts.health_check, ["/bin/sh", "-c", "curl -f http://localhost"]);
        assert_eq!(facts.device_requests, ["gpu"]);
        assert_eq!(facts.devices, ["/dev/fuse"]);
        assert_eq!(facts.mounts[0].driver, "nfs");
        assert_eq!(facts.addresses, ["172.20.0.2"]);
        assert!(facts.auto_remove);
    }

    #[test]
    fn what_no_container_lacks_is_missed() {
        assert!(matches!(facts(&json!({})), Err(LookError::Inspect { field: "Id" })));
        let stateless = json!({"Id": "abc"});
        assert!(matches!(facts(&stateless), Err(LookError::Inspect { field: "State.Status" })));
        let odd = json!({"Id": "abc", "State": {"Status": "running", "Pid": "x"}, "Mounts": 7});
        assert_eq!(facts(&odd).unwrap().mounts, []);
    }

    #[test]
    fn a_disabled_health_check_is_none() {
        let none = json!({"Config": {"Healthcheck": {"Test": ["NONE"]}}});
        assert!(health_check(&none).is_empty());
        let command = json!({"Config": {"Healthcheck": {"Test": ["CMD", "pg_isready", "-q"]}}});
        assert_eq!(health_check(&command), ["pg_isready", "-q"]);
    }
}
