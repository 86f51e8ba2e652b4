use super::super::lab::Namespace;
use super::*;

fn spec() -> HoldSpec {
    HoldSpec {
        addresses: vec!["172.30.0.2".parse().unwrap(), "fd30::2".parse().unwrap()],
        published: vec![
            Published { protocol: Protocol::Tcp, host_ip: None, host_port: 8080 },
            Published { protocol: Protocol::Udp, host_ip: Some("0.0.0.0".parse().unwrap()), host_port: 53 },
            Published { protocol: Protocol::Tcp, host_ip: Some("127.0.0.1".parse().unwrap()), host_port: 9090 },
        ],
        outbound: Vec::new(),
    }
}

fn replies(count: u16) -> Vec<ReplyTuple> {
    let tuple = |number| ReplyTuple {
        protocol: Protocol::Tcp,
        remote: "192.0.2.1:443".parse().unwrap(),
        host: format!("192.0.2.2:{}", 30_000 + number).parse().unwrap(),
    };
    (0..count).map(tuple).collect()
}

#[test]
fn new_connections_alone_are_held_at_first() {
    let (_, rules) = render(&spec(), 7, Mode::NewOnly, Family::V4, &[]);
    assert_eq!(
        rules,
        "*raw\n\
         :TRANSSHIP-TRACKED - [0:0]\n\
         -A TRANSSHIP-TRACKED -m conntrack --ctstate UNTRACKED -j RETURN\n\
         :TRANSSHIP-7 - [0:0]\n\
         :TRANSSHIP-7-pass - [0:0]\n\
         -A TRANSSHIP-7 -m mark --mark 0x54530007 -g TRANSSHIP-7-pass\n\
         -A TRANSSHIP-7 -m mark --mark 0x54530000/0xffff0000 -j RETURN\n\
         -A TRANSSHIP-7-pass -j MARK --set-xmark 0x0/0xffffffff\n\
         -A TRANSSHIP-7 -d 172.30.0.2 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j NFQUEUE --queue-num 7\n\
         -A TRANSSHIP-7 -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 8080 --tcp-flags FIN,SYN,RST,ACK SYN \
         -j NFQUEUE --queue-num 7\n\
         -A TRANSSHIP-7 -d 127.0.0.1 -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 9090 \
         --tcp-flags FIN,SYN,RST,ACK SYN -j NFQUEUE --queue-num 7\n\
         -I PREROUTING 1 -j TRANSSHIP-7\n\
         -I OUTPUT 1 -j TRANSSHIP-7\n\
         COMMIT\n"
    );
}

#[test]
fn everything_is_held_in_the_end_and_no_jump_is_doubled() {
    let present: Vec<String> = HOOKS.map(|hook| jump(hook, "TRANSSHIP-7")).to_vec();
    let (_, rules) = render(&spec(), 7, Mode::Closing, Family::V6, &present);
    assert_eq!(
        rules,
        "*raw\n\
         :TRANSSHIP-TRACKED - [0:0]\n\
         -A TRANSSHIP-TRACKED -m conntrack --ctstate UNTRACKED -j RETURN\n\
         :TRANSSHIP-7 - [0:0]\n\
         :TRANSSHIP-7-pass - [0:0]\n\
         -A TRANSSHIP-7 -m mark --mark 0x54530007 -g TRANSSHIP-7-pass\n\
         -A TRANSSHIP-7 -m mark --mark 0x54530000/0xffff0000 -j RETURN\n\
         -A TRANSSHIP-7-pass -j MARK --set-xmark 0x0/0xffffffff\n\
         -A TRANSSHIP-7 -s fd30::2 -p tcp -m tcp ! --tcp-flags FIN,RST NONE -j DROP\n\
         -A TRANSSHIP-7 -s fd30::2 -j NFQUEUE --queue-num 7\n\
         -A TRANSSHIP-7 -d fd30::2 -j NFQUEUE --queue-num 7\n\
         -A TRANSSHIP-7 -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 8080 -j NFQUEUE --queue-num 7\n\
         COMMIT\n"
    );
}

#[test]
fn no_packet_walks_past_a_thousand_replies() {
    let spec = HoldSpec { outbound: replies(1000), ..HoldSpec::default() };
    let (_, rules) = render(&spec, 7, Mode::Closing, Family::V4, &[]);
    let longest = |chain: &str| rules.lines().filter(|line| line.starts_with(&format!("-A {chain} "))).count();
    assert_eq!(rules.lines().filter(|line| line.contains("--queue-num 7")).count(), 1000);
    assert!(longest("TRANSSHIP-7") + longest("TRANSSHIP-7-2") < 100);
}

#[test]
fn chains_are_told_from_those_of_others() {
    assert_eq!(owner("TRANSSHIP-21587"), Some(21587));
    assert_eq!(owner("TRANSSHIP-21587-3"), Some(21587));
    assert_eq!(owner("TRANSSHIP-NEW"), None);
    assert_eq!(owner("DOCKER"), None);
}

/// I5 and I7: sweeping leaves nothing of ours, and everything of others.
#[test]
fn i5_i7_sweeping_leaves_only_what_is_listened_to_and_what_is_not_ours() {
    let host = Namespace::new();
    let rules_of_others = "iptables -t raw -A PREROUTING -s 203.0.113.9 -j DROP; iptables -t raw -N DOCKER-RAW";
    host.shell(rules_of_others);
    let before = host.run(|| list(Family::V4));
    let spec = HoldSpec { outbound: replies(40), ..spec() };
    host.run(|| {
        for queue in [3, 4, 5] {
            let placed = apply(&spec, queue, Mode::NewOnly, |_| Ok(Vec::new()))?;
            assert_eq!(placed.iter().map(|placed| placed.family).collect::<Vec<_>>(), Family::BOTH);
            apply(&spec, queue, Mode::All, |family| Ok(jumps(&placed, queue, family)))?;
        }
        Ok(())
    });
    assert_eq!(host.run(queues_with_rules), [3, 4, 5]);
    assert_eq!(host.run(|| sweep(|| Ok(vec![4]))), [3, 5]);
    let left = host.run(|| list(Family::V4));
    assert!(left.contains(&jump("OUTPUT", "TRANSSHIP-4")) && !left.iter().any(|line| line.contains("TRANSSHIP-3")));
    assert_eq!(host.run(|| sweep(|| Ok(Vec::new()))), [4]);
    assert_eq!(host.run(|| list(Family::V4)), before);
    assert_eq!(host.run(|| sweep(|| Ok(Vec::new()))), [0; 0]);
}

/// I5: a hold that was tightened twice, first over many connections and then over few, leaves no chain behind.
#[test]
fn i5_chains_no_longer_used_are_removed_too() {
    let host = Namespace::new();
    let before = host.run(|| list(Family::V4));
    let many = HoldSpec { outbound: replies(40), ..spec() };
    host.run(|| {
        let first = apply(&many, 3, Mode::All, |_| Ok(Vec::new()))?;
        let second = apply(&spec(), 3, Mode::All, |family| Ok(jumps(&first, 3, family)))?;
        remove(3, Some(&merge(first, second)))?;
        sweep(|| Ok(Vec::new()))
    });
    assert_eq!(host.run(|| list(Family::V4)), before);
}

/// Somebody has changed the rules of a hold: it is removed all the same.
#[test]
fn i5_a_hold_with_rules_changed_by_others_is_removed() {
    let host = Namespace::new();
    let before = host.run(|| list(Family::V4));
    let placed = host.run(|| apply(&spec(), 3, Mode::All, |_| Ok(Vec::new())));
    host.shell("iptables -t raw -D OUTPUT -j TRANSSHIP-3");
    host.run(|| remove(3, Some(&placed)).and_then(|()| sweep(|| Ok(Vec::new()))));
    assert_eq!(host.run(|| list(Family::V4)), before);
}

/// The other variant of iptables does the same.
#[test]
fn legacy_iptables_takes_the_same_rules() {
    let host = Namespace::new();
    let spec = HoldSpec { outbound: replies(40), ..spec() };
    host.run(|| {
        let (_, rules) = render(&spec, 3, Mode::Closing, Family::V4, &[]);
        command::run("iptables-legacy-restore", &["--noflush", "--wait=10"], &rules)?;
        let text = command::run("iptables-legacy", &["-w", "10", "-t", "raw", "-S"], "")?;
        let present: Vec<String> = text.lines().map(str::to_owned).collect();
        let chains: Vec<&str> = chains(&present).collect();
        let rules = removal(&present, &chains).expect("there are chains to remove");
        command::run("iptables-legacy-restore", &["--noflush", "--wait=10"], &rules)?;
        let left = command::run("iptables-legacy", &["-w", "10", "-t", "raw", "-S"], "")?;
        assert!(!left.contains(PREFIX), "{left}");
        Ok(())
    });
}
