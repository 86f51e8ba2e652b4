//! The interposer stands in nobody's way.

use super::lab::{BOTH, SID, hosts};

#[test]
fn everything_but_claimed_containers_is_the_real_runcs() {
    let _turn = hosts();
    for host in BOTH {
        let ours = "/usr/libexec/transship/bin/runc";
        for words in
            ["--version", "features", "nonsense", "kill nosuch", "create", "state nosuch", "--root /x list -f json"]
        {
            let [real, passed] = ["runc", ours].map(|runc| host.try_sh(&format!("{runc} {words} </dev/null")));
            let without_time = |bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                text.split("time=\"")
                    .map(|part| part.split_once('"').map_or(part, |(_, rest)| rest))
                    .collect::<String>()
            };
            assert_eq!(passed.status.code(), real.status.code(), "{words}");
            assert_eq!(without_time(&passed.stdout), without_time(&real.stdout), "{words}");
            assert_eq!(without_time(&passed.stderr), without_time(&real.stderr), "{words}");
        }
    }
}

#[test]
fn containers_start_whatever_state_the_store_and_the_helper_are_in() {
    let _turn = hosts();
    SID.sh("service transshipd stop");
    let whole = "mv /var/lib/transship/claims /var/lib/transship/claims.away";
    for damage in ["true", whole, "echo rubbish > /var/lib/transship/claims"] {
        SID.sh(damage);
        assert_eq!(SID.sh("docker run --rm programs echo started"), "started", "{damage}");
    }
    SID.sh("rm -f /var/lib/transship/claims; mv /var/lib/transship/claims.away /var/lib/transship/claims");
    SID.sh("service transshipd start");
}

#[test]
fn i8_a_frozen_container_is_not_started_afresh_while_the_helper_is_dead() {
    let _turn = hosts();
    let container = SID.start("orphan", "--restart always programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    SID.sh("transship checkpoint orphan && service transshipd stop");
    let refused = SID.try_sh("docker start orphan");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("start transshipd"), "{text}");
    SID.sh("service transshipd start && transship restore orphan");
    assert_eq!(container.born(7000), born);
}

#[test]
fn i5_uninstalling_gives_every_file_back() {
    let _turn = hosts();
    let files = "find /etc /usr/local /usr/libexec -type f -o -type l | sort | xargs -d '\\n' ls -ld --time-style=+ | \
                 grep -v transship-runc; cat /etc/default/docker";
    let listed = || SID.sh(files).lines().map(str::to_owned).collect::<Vec<_>>();
    let installed = listed();
    SID.sh("transship uninstall");
    let left: Vec<_> = listed().into_iter().filter(|line| line.contains("transship/bin")).collect();
    assert_eq!(left, Vec::<String>::new());
    SID.sh("transship install");
    let again = listed();
    let differs =
        |one: &[String], other: &[String]| one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>();
    assert_eq!(differs(&installed, &again), differs(&again, &installed), "gone, and new");
    assert_eq!(installed, again, "in another order");
    assert_eq!(SID.sh("transship install"), "nothing to do");
}
