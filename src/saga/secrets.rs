//! What the journal need not remember of an operation that is over.

use serde_json::Value;

/// Parts of what `docker inspect` says of a container in which people put passwords.
const WHERE_SECRETS_ARE: [&str; 4] = ["Env", "Cmd", "Entrypoint", "Args"];

/// Empties them, wherever in an operation's state a container's specification is.
pub fn forget(state: &mut Value) {
    match state {
        Value::Array(values) => values.iter_mut().for_each(forget),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Array(list) if WHERE_SECRETS_ARE.contains(&name.as_str()) => list.clear(),
                    other => forget(other),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn secrets_are_found_at_any_depth_and_the_rest_stays() {
        let mut state = json!({ "members": [{ "name": "db", "inspect": {
            "Args": ["--password", "x"],
            "Config": { "Env": ["PASSWORD=x"], "Cmd": null, "Labels": { "Env": "test" } },
        } }] });
        super::forget(&mut state);
        let left = json!({ "members": [{ "name": "db", "inspect": {
            "Args": [],
            "Config": { "Env": [], "Cmd": null, "Labels": { "Env": "test" } },
        } }] });
        assert_eq!(state, left);
    }
}
