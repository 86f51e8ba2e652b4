use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use super::super::command;
use super::super::error::Result;
use super::super::lab::{Segment, ask, ask_all, connect, echo_server};
use super::super::spec::{Protocol, Published};
use super::super::tracking;
use super::*;

const HOLD: Duration = Duration::from_millis(500);

fn spec() -> HoldSpec {
    HoldSpec {
        addresses: vec!["172.30.0.2".parse().unwrap(), "fd30::2".parse().unwrap()],
        published: vec![Published { protocol: Protocol::Tcp, host_ip: None, host_port: 8080 }],
        outbound: Vec::new(),
    }
}

/// Inbound through the published port and outbound masqueraded, each in both families.
fn connections(segment: &Segment) -> Vec<TcpStream> {
    for server in ["172.30.0.2:7000", "[fd30::2]:7000"] {
        echo_server(&segment.container, server);
    }
    for server in ["192.0.2.1:9000", "[2001:db8:1::1]:9000"] {
        echo_server(&segment.client, server);
    }
    let mut streams = vec![
        connect(&segment.client, "192.0.2.2:8080"),
        connect(&segment.client, "[2001:db8:1::2]:8080"),
        connect(&segment.container, "192.0.2.1:9000"),
        connect(&segment.container, "[2001:db8:1::1]:9000"),
    ];
    ask_all(&mut streams, 0);
    streams
}

fn no_rules_left(segment: &Segment) {
    for tool in ["iptables-save", "ip6tables-save"] {
        let rules = segment.host.run(|| command::run(tool, &["-t", "raw"], ""));
        assert!(!rules.contains("TRANSSHIP"), "{rules}");
    }
    assert!(segment.host.run(queue::in_use).is_empty());
}

/// Waits, without a guess at how long it takes, until something is parked.
fn until_waiting(segment: &Segment, hold: &Hold, packets: u64) -> Result<()> {
    while segment.host.run(|| hold.waiting()) < packets {
        std::thread::yield_now();
    }
    Ok(())
}

/// The whole of it: asked while everything is held and the host has forgotten the connections, with their rules, as when
/// Docker stops a container, each side is answered as soon as the hold is released.
#[test]
fn i6_connections_live_through_a_hold_and_wait_no_longer_than_it() {
    let segment = Segment::new();
    let mut streams = connections(&segment);
    let addresses = spec().addresses;

    let mut hold = segment.host.run(|| Hold::place(spec(), Bounds::default()));
    ask_all(&mut streams, 1);
    let saved = segment.host.run(|| tracking::save(&addresses));
    assert_eq!(saved.len(), 4);
    let outbound = tracking::outbound_replies(&saved, &addresses);
    assert_eq!(outbound.len(), 2);
    let tightening = Instant::now();
    segment.host.run(|| hold.tighten(outbound.clone()));
    segment.host.run(|| hold.close(outbound.clone()));
    println!("tightened in {:?}", tightening.elapsed());
    let start = Instant::now();
    let rules =
        ["iptables", "ip6tables"].map(|tool| segment.host.shell(&format!("{tool}-save -t nat; {tool} -t nat -F")));
    segment.host.shell("conntrack -F");

    let waits = std::thread::scope(|scope| {
        let asking: Vec<_> = streams.iter_mut().map(|stream| scope.spawn(move || ask(stream, 2))).collect();
        let (client, to) = (&segment.client, ["192.0.2.2:8080", "[2001:db8:1::2]:8080"]);
        let connecting: Vec<_> = to
            .map(|to| {
                scope.spawn(move || {
                    let start = Instant::now();
                    connect(client, to);
                    start.elapsed()
                })
            })
            .into();
        until_waiting(&segment, &hold, 6).unwrap();
        // Not for an event, but to be away for a while.
        std::thread::sleep(HOLD.saturating_sub(start.elapsed()));
        for (tool, rules) in ["iptables", "ip6tables"].iter().zip(&rules) {
            segment.host.run(|| command::run(&format!("{tool}-restore"), &["-n"], rules));
        }
        let back = segment.host.run(|| tracking::put_back(&saved));
        assert!(back.refused.is_empty(), "{back:?}");
        let releasing = Instant::now();
        let report = segment.host.run(|| hold.release());
        println!("{report:?}, released in {:?}, all held for {:?}", releasing.elapsed(), start.elapsed());
        assert!(report.parked >= 6 && report.dropped == 0, "{report:?}");
        let held = start.elapsed();
        let waits: Vec<Duration> = asking.into_iter().chain(connecting).map(|wait| wait.join().unwrap()).collect();
        println!("waits: {waits:?}");
        assert!(waits.iter().all(|wait| *wait < held + Duration::from_millis(150)), "{waits:?} against {held:?}");
        waits
    });
    assert!(waits[4..].iter().all(|wait| *wait < Duration::from_millis(850)), "{waits:?}");
    assert!(ask_all(&mut streams, 3) < Duration::from_millis(150));
    no_rules_left(&segment);
}

/// Only new connections wait at first.
#[test]
fn open_connections_go_on_until_the_hold_is_tightened() {
    let segment = Segment::new();
    let mut streams = connections(&segment);
    let mut hold = segment.host.run(|| Hold::place(spec(), Bounds::default()));
    assert!(ask_all(&mut streams, 1) < HOLD);
    std::thread::scope(|scope| {
        // One comes from outside, one from a process on the host.
        let connecting = [(&segment.client, "192.0.2.2:8080"), (&segment.host, "172.30.0.2:7000")]
            .map(|(from, to)| scope.spawn(move || connect(from, to)));
        until_waiting(&segment, &hold, 2).unwrap();
        assert!(ask_all(&mut streams, 2) < HOLD);
        assert_eq!(segment.host.run(|| hold.release()).parked, 2);
        for connecting in connecting {
            ask(&mut connecting.join().unwrap(), 3);
        }
    });
    no_rules_left(&segment);
}

/// Whoever is back need not wait for those that are not, nor for the rules of any hold to be gone; what comes for two waits for
/// both.
#[test]
fn packets_pass_the_holds_of_others() {
    let segment = Segment::new();
    let mut streams = connections(&segment);
    let of = |address: &str| HoldSpec { addresses: vec![address.parse().unwrap()], ..HoldSpec::default() };
    let mut hold = segment.host.run(|| Hold::place_all(spec(), Bounds::default()));
    let mut of_visitor = segment.host.run(|| Hold::place_all(of("192.0.2.1"), Bounds::default()));
    let mut of_neighbour = segment.host.run(|| Hold::place_all(of("172.30.0.3"), Bounds::default()));
    let stream = &mut streams[0];
    std::thread::scope(|scope| {
        let asking = scope.spawn(move || ask(stream, 1));
        until_waiting(&segment, &of_visitor, 1).unwrap();
        of_visitor.let_pass().unwrap();
        until_waiting(&segment, &hold, 1).unwrap();
        hold.let_pass().unwrap();
        let passed = Instant::now();
        asking.join().unwrap();
        assert!(passed.elapsed() < HOLD, "{:?}", passed.elapsed());
    });
    for hold in [&mut hold, &mut of_visitor, &mut of_neighbour] {
        segment.host.run(|| hold.release());
    }
    no_rules_left(&segment);
}

/// A container that is killed while its copy is kept says goodbye for its sockets; nobody must hear it.
#[test]
fn i2_the_end_of_the_frozen_copy_is_not_heard() {
    let segment = Segment::new();
    echo_server(&segment.client, "192.0.2.1:9000");
    let stream = connect(&segment.container, "192.0.2.1:9000");
    let mut to_container = {
        let listener = segment.container.run(|| Ok(std::net::TcpListener::bind("172.30.0.2:7000").unwrap()));
        let client = connect(&segment.client, "192.0.2.2:8080");
        let (server, _) = listener.accept().unwrap();
        let mut hold = segment.host.run(|| Hold::place(spec(), Bounds::default()));
        segment.host.run(|| hold.close(Vec::new()));
        nix::sys::socket::setsockopt(
            &server,
            nix::sys::socket::sockopt::Linger,
            &libc::linger { l_onoff: 1, l_linger: 0 },
        )
        .unwrap();
        drop(server);
        drop(stream);
        segment.host.run(|| hold.release());
        client
    };
    to_container.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let heard = to_container.read(&mut [0; 8]).unwrap_err();
    assert_eq!(heard.kind(), std::io::ErrorKind::WouldBlock, "{heard}");
    no_rules_left(&segment);
}

/// Datagrams come out in the order they went in, past the bound they are dropped, and that is told.
#[test]
fn the_order_is_kept_and_the_bound_is_told() {
    let segment = Segment::new();
    let server = segment.container.run(|| Ok(UdpSocket::bind("172.30.0.2:7000").unwrap()));
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let client = segment.host.run(|| Ok(UdpSocket::bind("0.0.0.0:0").unwrap()));
    let mut hold = segment.host.run(|| Hold::place_all(spec(), Bounds { max_packets: 200 }));
    for number in 0..300_u32 {
        client.send_to(&number.to_be_bytes(), "172.30.0.2:7000").unwrap();
    }
    let report = segment.host.run(|| hold.release());
    assert_eq!((report.parked, report.dropped), (200, 100));
    for number in 0..200_u32 {
        let mut bytes = [0; 4];
        assert_eq!(server.recv(&mut bytes).unwrap(), 4);
        assert_eq!(u32::from_be_bytes(bytes), number);
    }
    assert!(matches!(segment.host.run(|| Ok(hold.release())), Err(Error::AlreadyReleased { .. })));
    no_rules_left(&segment);
}

/// The kernel drops what is parked when the last rule that wants connection tracking goes, in either family: Docker's when
/// dockerd starts, the hold's own and another one's when it is lifted.
#[test]
fn parked_packets_outlast_the_rules_that_want_connection_tracking() {
    let segment = Segment::new();
    let server = segment.container.run(|| Ok(UdpSocket::bind("172.30.0.2:7000").unwrap()));
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let client = segment.host.run(|| Ok(UdpSocket::bind("0.0.0.0:0").unwrap()));
    // Nobody else here wants it.
    segment.host.shell("nft delete table ip nat; nft delete table ip6 nat");
    let mut other = segment.host.run(|| Hold::place(HoldSpec::default(), Bounds::default()));
    let mut hold = segment.host.run(|| Hold::place_all(spec(), Bounds::default()));
    for number in 0..20_u32 {
        client.send_to(&number.to_be_bytes(), "172.30.0.2:7000").unwrap();
    }
    until_waiting(&segment, &hold, 20).unwrap();

    segment.host.run(|| other.release());
    assert_eq!(segment.host.run(|| hold.waiting()), 20);
    segment.host.run(|| rules::remove(hold.queue, hold.placed.take().as_deref()));
    assert_eq!(segment.host.run(|| hold.waiting()), 20);

    assert_eq!(segment.host.run(|| hold.release()).parked, 20);
    (0..20).for_each(|_| assert_eq!(server.recv(&mut [0; 4]).unwrap(), 4));
    no_rules_left(&segment);
}

/// Large segments, as the hardware would cut them, go through a hold whole.
#[test]
fn a_bulk_transfer_goes_on_after_a_hold() {
    let segment = Segment::new();
    echo_server(&segment.container, "172.30.0.2:7000");
    let mut stream = connect(&segment.client, "192.0.2.2:8080");
    let mut reader = stream.try_clone().unwrap();
    const SIZE: usize = 64 << 20;
    let reading = std::thread::spawn(move || {
        let (mut total, mut buffer) = (0, vec![0; 1 << 20]);
        while total < SIZE {
            match reader.read(&mut buffer).unwrap() {
                0 => break,
                read => {
                    assert!(buffer[..read].iter().enumerate().all(|(at, byte)| *byte == ((total + at) % 251) as u8));
                    total += read;
                }
            }
        }
        total
    });
    let bytes: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    let writing = std::thread::spawn(move || stream.write_all(&bytes).map(|()| stream));
    let mut hold = segment.host.run(|| Hold::place_all(spec(), Bounds::default()));
    until_waiting(&segment, &hold, 5).unwrap();
    let report = segment.host.run(|| hold.release());
    assert_eq!(report.dropped, 0);
    writing.join().unwrap().unwrap();
    assert_eq!(reading.join().unwrap(), SIZE);
}

/// What lies behind the hold in the raw table is not skipped by packets that waited in it.
#[test]
fn rules_of_others_apply_to_parked_packets_too() {
    let segment = Segment::new();
    segment.host.shell("iptables -t raw -A PREROUTING -p udp --dport 7001 -j DROP");
    let servers = ["172.30.0.2:7000", "172.30.0.2:7001"]
        .map(|address| segment.container.run(|| Ok(UdpSocket::bind(address).unwrap())));
    let client = segment.neighbour.run(|| Ok(UdpSocket::bind("0.0.0.0:0").unwrap()));
    segment.neighbour.ip("route add 172.30.0.2 via 172.30.0.1");
    let mut hold = segment.host.run(|| Hold::place_all(spec(), Bounds::default()));
    for to in ["172.30.0.2:7001", "172.30.0.2:7000"] {
        client.send_to(b"hello", to).unwrap();
    }
    until_waiting(&segment, &hold, 2).unwrap();
    assert_eq!(segment.host.run(|| hold.release()).parked, 2);
    servers[0].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(servers[0].recv(&mut [0; 8]).unwrap(), 5);
    servers[1].set_nonblocking(true).unwrap();
    assert!(servers[1].recv(&mut [0; 8]).is_err());
}

/// Where bridged packets pass iptables, the hold sees those between neighbours too.
#[test]
fn bridged_packets_wait_where_they_pass_iptables() {
    let segment = Segment::new();
    echo_server(&segment.container, "172.30.0.2:7000");
    let mut stream = connect(&segment.neighbour, "172.30.0.2:7000");
    segment.host.shell("echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables");
    let mut hold = segment.host.run(|| Hold::place_all(spec(), Bounds::default()));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&mut stream, 1));
        until_waiting(&segment, &hold, 1).unwrap();
        assert!(segment.host.run(|| hold.release()).parked >= 1);
        assert!(asking.join().unwrap() < Duration::from_millis(300));
    });
    no_rules_left(&segment);
}

/// I5: the helper dies, its rules stay and refuse nobody; a new helper takes over, or sweeps.
#[test]
fn i5_a_hold_outlives_its_helper_and_is_taken_over_or_swept() {
    let segment = Segment::new();
    let mut streams = connections(&segment);
    let hold = segment.host.run(|| Hold::place_all(spec(), Bounds::default()));
    let (spec, queue) = (hold.spec().clone(), hold.queue());
    drop(hold);

    std::thread::scope(|scope| {
        let asking: Vec<_> = streams.iter_mut().map(|stream| scope.spawn(move || ask(stream, 1))).collect();
        let other = segment.host.run(|| Hold::place(HoldSpec::default(), Bounds::default()));
        assert_ne!(other.queue(), queue, "a queue with rules is not free");
        let mut hold = segment.host.run(|| Hold::readopt(spec.clone(), queue, Bounds::default()));
        until_waiting(&segment, &hold, 1).unwrap();
        let other_queue = other.queue();
        drop(other);
        assert_eq!(segment.host.run(sweep), [other_queue]);
        segment.host.run(|| hold.release());
        asking.into_iter().for_each(|asking| drop(asking.join()));
    });

    drop(segment.host.run(|| Hold::place_all(spec.clone(), Bounds::default())));
    assert_eq!(segment.host.run(sweep), [queue]);
    no_rules_left(&segment);
    ask_all(&mut streams, 2);
}

/// I5: what could not be taken away with its own hold goes with the next one, whose packets are not touched by that.
#[test]
fn i5_what_one_hold_has_left_behind_goes_with_the_next() {
    let segment = Segment::new();
    let mut streams = connections(&segment);
    drop(segment.host.run(|| Hold::place(HoldSpec::default(), Bounds::default())));
    let mut hold = segment.host.run(|| Hold::place_all(spec(), Bounds::default()));
    std::thread::scope(|scope| {
        let asking: Vec<_> = streams.iter_mut().map(|stream| scope.spawn(move || ask(stream, 1))).collect();
        until_waiting(&segment, &hold, 1).unwrap();
        segment.host.run(|| {
            forget_shared();
            Ok(())
        });
        assert!(segment.host.run(|| hold.waiting()) > 0);
        assert!(segment.host.run(|| hold.release()).parked > 0);
        assert!(asking.into_iter().all(|asking| asking.join().is_ok()));
    });
    no_rules_left(&segment);
}
