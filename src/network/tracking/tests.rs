use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::super::command;
use super::super::lab::{Segment, ask_all, connect, echo_server};
use super::super::remembered::Remembered;
use super::super::spec::HoldSpec;
use super::*;

fn entry(original: [&str; 2], reply: [&str; 2]) -> Entry {
    let tuple = |[source, destination]: [&str; 2]| Tuple {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    };
    Entry {
        protocol: Protocol::Tcp,
        original: tuple(original),
        reply: tuple(reply),
        status: 0x1be,
        timeout: 431_999,
        mark: 0,
        zone: 0,
        tcp: Some(TcpState { state: 3, window_scale_original: 7, window_scale_reply: 7, ..TcpState::default() }),
    }
}

fn inbound() -> Entry {
    entry(["192.0.2.1:40000", "192.0.2.2:8080"], ["172.30.0.2:7000", "192.0.2.1:40000"])
}

fn outbound() -> Entry {
    entry(["172.30.0.2:50000", "192.0.2.1:9000"], ["192.0.2.1:9000", "192.0.2.2:50000"])
}

#[test]
fn mappings_follow_from_the_two_tuples() {
    assert_eq!(inbound().destination_nat(), Some("172.30.0.2:7000".parse().unwrap()));
    assert_eq!(inbound().source_nat(), None);
    assert_eq!(outbound().source_nat(), Some("192.0.2.2:50000".parse().unwrap()));
    assert_eq!(outbound().destination_nat(), None);
}

#[test]
fn what_is_led_to_the_container_arrives_elsewhere_than_at_its_published_ports() {
    let container = ["172.30.0.2".parse().unwrap()];
    let led = entry(["192.0.2.3:2000", "192.0.2.2:50000"], ["172.30.0.2:50000", "192.0.2.1:9000"]);
    let published = [Published { protocol: Protocol::Tcp, host_ip: None, host_port: 8080 }];
    let found = led_arrivals(&[inbound(), outbound(), led.clone()], &container, &published);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].remote, found[0].host), (led.original.source, led.original.destination));
}

#[test]
fn only_masqueraded_connections_of_the_container_have_outbound_replies() {
    let container = ["172.30.0.2".parse().unwrap()];
    let to_the_host = entry(["172.30.0.2:50001", "172.30.0.1:53"], ["172.30.0.1:53", "172.30.0.2:50001"]);
    let replies = outbound_replies(&[inbound(), outbound(), to_the_host, outbound()], &container);
    let expected = ReplyTuple {
        protocol: Protocol::Tcp,
        remote: "192.0.2.1:9000".parse().unwrap(),
        host: "192.0.2.2:50000".parse().unwrap(),
    };
    assert_eq!(replies, [expected]);
}

#[test]
fn rewriting_moves_addresses_and_keeps_ports() {
    let moves = BTreeMap::from([("172.30.0.2".parse().unwrap(), "172.31.9.9".parse().unwrap())]);
    let moved = rewrite(&[inbound(), outbound()], &moves);
    assert_eq!(moved[0].reply.source, "172.31.9.9:7000".parse().unwrap());
    assert_eq!(moved[0].original, inbound().original);
    assert_eq!(moved[1].original.source, "172.31.9.9:50000".parse().unwrap());
}

#[test]
fn an_entry_survives_its_file() {
    let json = serde_json::to_string(&[inbound(), outbound()]).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Entry>>(&json).unwrap(), [inbound(), outbound()]);
    assert!(json.contains(r#""source":"192.0.2.1:40000""#), "{json}");
}

/// What nobody has open any more is not taken along, and does not stay in the table either; what is open goes on.
#[test]
fn connections_that_both_ends_have_closed_are_forgotten() {
    let segment = Segment::new();
    echo_server(&segment.container, "172.30.0.2:7000");
    let mut open = [connect(&segment.client, "192.0.2.2:8080")];
    let mut over = [connect(&segment.client, "192.0.2.2:8080")];
    ask_all(&mut over, 1);
    drop(over);
    let addresses: Vec<IpAddr> = vec!["172.30.0.2".parse().unwrap()];
    let table = || segment.host.run(|| save(&addresses));
    let begun = Instant::now();
    while !table().iter().any(Entry::is_over) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", table());
        std::thread::yield_now();
    }
    let spec = HoldSpec { addresses: addresses.clone(), ..HoldSpec::default() };
    let now = segment.host.run(|| Remembered::now(spec.clone(), None));
    assert_eq!((now.tracked.len(), table().len()), (1, 2), "who runs on keeps its table");
    let still = segment.host.run(|| Remembered::standing_still(spec.clone(), None, &segment.container.net));
    assert_eq!((still.tracked.len(), table().len()), (1, 1));
    assert_eq!(still.tracked[0].original, now.tracked[0].original);
    ask_all(&mut open, 1);
}

fn flush(segment: &Segment) {
    segment.host.run(|| command::run("conntrack", &["-F"], ""));
}

/// What [`forget`] began ends: packets come through again.
fn remember(segment: &Segment) {
    segment.host.shell("iptables -t raw -F; ip6tables -t raw -F");
}

/// The host forgets the connections and the rules that made them, as when Docker stops a container. Until [`remember`]
/// nothing comes in, since a late acknowledgement would be answered by a reset.
fn forget(segment: &Segment, addresses: &[&str]) -> Vec<Entry> {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let saved = segment.host.run(|| save(&addresses));
    for tool in ["iptables", "ip6tables"] {
        segment.host.shell(&format!("{tool} -t raw -I PREROUTING -j DROP; {tool} -t nat -F"));
    }
    flush(segment);
    saved
}

fn connections(segment: &Segment) -> [TcpStream; 4] {
    for server in ["172.30.0.2:7000", "[fd30::2]:7000"] {
        echo_server(&segment.container, server);
    }
    for server in ["192.0.2.1:9000", "[2001:db8:1::1]:9000"] {
        echo_server(&segment.client, server);
    }
    [
        connect(&segment.client, "192.0.2.2:8080"),
        connect(&segment.client, "[2001:db8:1::2]:8080"),
        connect(&segment.container, "192.0.2.1:9000"),
        connect(&segment.container, "[2001:db8:1::1]:9000"),
    ]
}

/// I6: with the entries back, connections both ways and of both families go on, though no NAT rule is left.
#[test]
fn i6_connections_live_on_with_their_entries_put_back() {
    let segment = Segment::new();
    let mut streams = connections(&segment);
    ask_all(&mut streams, 1);

    let saved = forget(&segment, &["172.30.0.2", "fd30::2"]);
    assert_eq!(saved.len(), 4, "{saved:#?}");
    let back = segment.host.run(|| put_back(&saved));
    assert_eq!((back.created, back.replaced, back.refused.len()), (4, 0, 0), "{back:?}");
    remember(&segment);

    ask_all(&mut streams, 2);
    let mut again = segment.host.run(|| save(&["172.30.0.2".parse().unwrap(), "fd30::2".parse().unwrap()]));
    again.sort_by_key(|entry| entry.original);
    let mut before = saved.clone();
    before.sort_by_key(|entry| entry.original);
    for (after, before) in again.iter().zip(&before) {
        assert_eq!((after.original, after.reply), (before.original, before.reply));
        let liberal = after.tcp.map(|tcp| tcp.flags_original & tcp.flags_reply & TCP_BE_LIBERAL);
        assert_eq!(liberal, Some(TCP_BE_LIBERAL));
    }
}

/// What a client sent too early makes an entry of its own; it must give way.
#[test]
fn an_entry_in_the_way_is_replaced() {
    let segment = Segment::new();
    let mut streams = connections(&segment);
    ask_all(&mut streams, 1);
    let saved = forget(&segment, &["172.30.0.2", "fd30::2"]);
    let untranslated: Vec<Entry> =
        saved.iter().map(|entry| Entry { reply: entry.original.inverse(), ..entry.clone() }).collect();
    assert_eq!(segment.host.run(|| put_back(&untranslated)).created, 4);

    let back = segment.host.run(|| put_back(&saved));
    assert_eq!((back.created, back.replaced, back.refused.len()), (0, 4, 0), "{back:?}");
    remember(&segment);
    ask_all(&mut streams, 2);

    segment.host.run(|| remove(&saved));
    assert!(segment.host.run(|| save(&["172.30.0.2".parse().unwrap(), "fd30::2".parse().unwrap()])).is_empty());
}

#[test]
fn entries_of_others_are_passed_over_by_their_bytes() {
    let segment = Segment::new();
    let stranger = entry(["192.0.2.1:40001", "192.0.2.2:8081"], ["172.30.0.3:7000", "192.0.2.1:40001"]);
    let v6 = entry(["[2001:db8:1::1]:40000", "[2001:db8:1::2]:8080"], ["[fd30::2]:7000", "[2001:db8:1::1]:40000"]);
    assert_eq!(segment.host.run(|| put_back(&[inbound(), outbound(), stranger, v6.clone()])).created, 4);
    let decoded = |address: &str| {
        let wanted = HashSet::from([address.parse().unwrap()]);
        segment.host.run(|| {
            let mut decoded = BTreeSet::new();
            let take = |message| decoded.extend(wire::decode(&message).map(|entry| entry.original));
            Channel::open()?.dump(wire::list(), |message| wire::has_any(&wanted, message), take)?;
            Ok(decoded)
        })
    };
    assert_eq!(decoded("172.30.0.2"), BTreeSet::from([inbound().original, outbound().original]));
    assert_eq!(decoded("fd30::2"), BTreeSet::from([v6.original]));
    assert!(decoded("172.30.0.4").is_empty());
}

#[test]
fn a_thousand_entries_come_back_at_once() {
    let segment = Segment::new();
    let entries: Vec<Entry> = (0..1000)
        .map(|number| {
            let client = format!("192.0.2.1:{}", 20_000 + number);
            entry([&client, "192.0.2.2:8080"], ["172.30.0.2:7000", &client])
        })
        .collect();
    let start = std::time::Instant::now();
    let back = segment.host.run(|| put_back(&entries));
    println!("1000 entries put back in {:?}", start.elapsed());
    assert_eq!(back.created, 1000, "{:?}", back.refused.first());
    assert_eq!(segment.host.run(|| save(&["172.30.0.2".parse().unwrap()])).len(), 1000);
}
