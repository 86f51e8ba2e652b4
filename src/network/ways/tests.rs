use super::*;

const CONTAINER: &str = "172.30.0.9";

fn tuple(source: &str, destination: &str) -> Tuple {
    Tuple { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn entry(original: Tuple, reply: Tuple) -> Entry {
    let tcp = TcpState { state: 3, window_scale_original: 1, window_scale_reply: 2, flags_original: 3, flags_reply: 4 };
    Entry { protocol: Protocol::Tcp, original, reply, status: 6, timeout: 100, mark: 0, zone: 0, tcp: Some(tcp) }
}

fn visitor(client: &str) -> Entry {
    entry(tuple(client, "10.0.0.1:8080"), tuple("172.30.0.9:80", client))
}

fn called(remote: &str, port: u16) -> Entry {
    entry(tuple(&format!("{CONTAINER}:{port}"), remote), tuple(remote, &format!("10.0.0.1:{port}")))
}

fn link() -> Link {
    Link { source: "10.0.0.1".parse().unwrap(), destination: "10.0.0.2".parse().unwrap() }
}

fn with<T>(link: Link, act: impl FnOnce(Moving<'_>) -> T) -> T {
    let address = CONTAINER.parse().unwrap();
    let segment = Segment { address, subnet: "172.30.0.0/24".parse().unwrap(), gateway: "172.30.0.1".parse().ok() };
    act(Moving { addresses: &[address], segments: &[segment], link })
}

fn departed(entries: &[Entry], link: Link) -> Vec<Entry> {
    with(link, |moving| moving.departed(entries))
}

fn arrived(entries: &[Entry], link: Link, here: &[Entry]) -> Vec<Entry> {
    with(link, |moving| moving.arrived(entries, here))
}

/// Both hosts' entries are two halves of one way, from the remote to the container's socket, which sends what it always has.
fn assert_goes_on(open: &Entry, coming: Tuple, sent: Tuple) {
    let (here, there) =
        (&departed(std::slice::from_ref(open), link())[0], &arrived(std::slice::from_ref(open), link(), &[])[0]);
    assert_eq!((here.original, there.reply), (coming, sent));
    assert_eq!(here.reply.inverse(), there.original, "what leaves the one comes to the other");
    assert_eq!((there.original.source.ip(), there.original.destination.ip()), (link().source, link().destination));
    assert_eq!(there.original.destination.port(), coming.destination.port());
}

#[test]
fn a_visitor_of_a_published_port_is_led_to_the_socket_that_knows_him() {
    let open = visitor("10.0.0.100:5555");
    assert_goes_on(&open, open.original, open.reply);
    assert_eq!(departed(std::slice::from_ref(&open), link())[0].tcp, open.tcp);
}

#[test]
fn what_the_container_has_called_still_hears_the_same_address() {
    let open = called("192.0.2.7:5432", 40000);
    assert_goes_on(&open, open.reply, open.original);
    let tcp = departed(&[open], link())[0].tcp.unwrap();
    assert_eq!((tcp.window_scale_original, tcp.flags_reply), (2, 3), "the directions have changed places");
}

#[test]
fn who_comes_to_its_own_address_by_way_of_its_host_is_led_and_a_neighbour_is_not() {
    let direct = |client: &str| entry(tuple(client, "172.30.0.9:80"), tuple("172.30.0.9:80", client));
    let open = direct("10.0.0.100:5555");
    assert_goes_on(&open, open.original, open.reply);
    let beside = direct("172.30.0.7:5555");
    assert!(departed(std::slice::from_ref(&beside), link()).is_empty());
    assert_eq!(arrived(std::slice::from_ref(&beside), link(), &[]), [beside]);
}

#[test]
fn connections_that_differ_in_the_remote_alone_do_not_meet() {
    let open: Vec<Entry> = (1..200).map(|last| visitor(&format!("10.0.1.{last}:5555"))).collect();
    let between: HashSet<Tuple> = departed(&open, link()).iter().map(|entry| entry.reply).collect();
    assert_eq!(between.len(), open.len());
    let there: HashSet<Tuple> = arrived(&open, link(), &[]).iter().map(|entry| entry.original.inverse()).collect();
    assert_eq!(between, there);
}

#[test]
fn a_container_that_moves_on_still_sees_both_whom_it_has_called_and_who_has_come() {
    for open in [visitor("10.0.0.100:5555"), called("192.0.2.7:5432", 40000)] {
        let sent = with(link(), |moving| moving.ends(&open)).unwrap().1;
        let second = arrived(&[open], link(), &[]);
        let onward = Link { source: link().destination, destination: "10.0.0.3".parse().unwrap() };
        let (on_second, on_third) = (&departed(&second, onward)[0], &arrived(&second, onward, &[])[0]);
        assert_eq!((on_second.original, on_third.reply), (second[0].original, sent));
    }
}

#[test]
fn a_container_that_comes_back_is_reached_without_the_way_round() {
    for open in [visitor("10.0.0.100:5555"), called("192.0.2.7:5432", 40000)] {
        let (coming, sent) = with(link(), |moving| moving.ends(&open)).unwrap();
        let led = departed(std::slice::from_ref(&open), link());
        let there = arrived(std::slice::from_ref(&open), link(), &[]);
        let back = Link { source: link().destination, destination: link().source };
        assert!(departed(&there, back).is_empty());
        assert!(
            with(back, |moving| moving.comes_back_to(&there)) && !with(link(), |moving| moving.comes_back_to(&[open]))
        );
        let again = &arrived(&there, back, &led)[0];
        assert_eq!((again.original, again.reply), (coming, sent));
    }
}

#[test]
fn who_has_come_from_the_host_that_it_comes_to_does_not_leave_that_host() {
    let open = visitor("10.0.0.2:5555");
    assert!(departed(std::slice::from_ref(&open), link()).is_empty());
    let there = &arrived(std::slice::from_ref(&open), link(), &[])[0];
    assert_eq!((there.original, there.reply), (open.original, open.reply));
}

#[test]
fn what_cannot_be_led_does_not_speak_in_the_other_hosts_name() {
    let datagrams = Entry { protocol: Protocol::Udp, tcp: None, ..called("192.0.2.53:53", 40000) };
    let of_other_family = entry(tuple("[fd00::7]:5555", "[fd00::1]:8080"), tuple("172.30.0.9:80", "172.30.0.1:5555"));
    let loopback = entry(tuple("127.0.0.1:5555", "127.0.0.1:8080"), tuple("172.30.0.9:80", "172.30.0.1:5555"));
    let mut ended = called("192.0.2.7:5432", 40001);
    ended.tcp = Some(TcpState { state: 7, ..TcpState::default() });
    let called_there = called("10.0.0.2:5432", 40000);
    let of_the_host = entry(tuple("172.30.0.1:5555", "172.30.0.9:80"), tuple("172.30.0.9:80", "172.30.0.1:5555"));
    for open in [datagrams, of_other_family, loopback, ended, called_there, of_the_host] {
        assert!(departed(std::slice::from_ref(&open), link()).is_empty());
        assert!(arrived(&[open], link(), &[]).is_empty());
    }
}
