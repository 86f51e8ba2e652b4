//! Memory that travels while a container runs, and what is left of it for when it stands still.

use super::host::{Container, Host};
use super::machines::{BOTH, SID, TRIXIE, pair};
use super::results::tried;
use serde_json::Value;
use std::mem::ManuallyDrop;

const PAGE: u64 = 4096;

/// A container that rewrites so many pages of its 32 MiB a second.
fn writer(rate: u32) -> ManuallyDrop<Container<'static>> {
    let options = "--network front -p 7000:7000 programs";
    ManuallyDrop::new(TRIXIE.start("writer", options, &format!("/tools/holder 7000 32 {rate}")))
}

fn writer_at(host: &'static Host) -> ManuallyDrop<Container<'static>> {
    ManuallyDrop::new(Container { host, name: "writer" })
}

/// How many pages it has rewritten by now.
fn rewritten(container: &Container) -> u64 {
    let answer = container.check(7000);
    let number = answer.split_whitespace().find_map(|word| word.strip_prefix("rewritten="));
    number.expect("rewritten=").parse().expect("a number")
}

/// The messages of a migration, and its answer behind them.
fn told(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn rounds(told: &[Value]) -> Vec<&Value> {
    told.iter().filter(|message| message["type"] == "round").collect()
}

/// What a migration has said, and how many bytes it has sent while the container stood still.
fn sent_while_it_stood_still(said: &str) -> (Vec<Value>, u64) {
    let told = told(said);
    let sent = told.last().expect("an answer")["containers"][0]["sent_bytes"].as_u64().expect("bytes");
    (told, sent)
}

#[test]
fn i1_i4_rounds_of_a_writer_that_is_slower_than_the_link_become_short() {
    let _turn = pair();
    let _tried = tried("`migrate` of a slow writer: its rounds converge", &BOTH);
    let here = writer(100);
    let born = here.born(7000);
    let before = rewritten(&here);
    let said = TRIXIE.sh("transship --json migrate writer --to sid --mode pre-copy --downtime 120s 2>&1");
    let (told, sent) = sent_while_it_stood_still(&said);
    let rounds = rounds(&told);
    eprintln!("{sent} bytes sent while it stood still; {rounds:?}");
    let there = writer_at(&SID);
    assert_eq!(there.born(7000), born);
    assert!(rounds.len() >= 2, "{rounds:?}");
    let last = rounds.last().expect("rounds")["sent_bytes"].as_u64().expect("bytes");
    assert!(last < 8 << 20, "they converge: {rounds:?}");
    let written = (rewritten(&there) - before) * PAGE;
    assert!(sent < written, "{sent} bytes, though it has written {written} in all");
}

#[test]
fn i1_i4_only_what_was_written_since_the_rounds_travels_while_a_container_stands_still() {
    let _turn = pair();
    let _tried = tried("`migrate` of a writer: what travels while it stands still is what it has written since", &BOTH);
    let here = writer(0);
    let born = here.born(7000);
    TRIXIE.make_stand();
    TRIXIE.stand_after("migrate", "rounds");
    TRIXIE.begin_as("writer", "--json migrate writer --to sid --mode pre-copy");
    TRIXIE.stands_after("writer", "rounds");
    let pages = 2000;
    TRIXIE.sh(&format!("docker exec writer /tools/watch 127.0.0.1:7000 --ask 'rewrite {pages}'"));
    TRIXIE.go_on("rounds");
    let (told, sent) = sent_while_it_stood_still(&TRIXIE.said_at_its_end("writer"));
    let written = pages * PAGE;
    eprintln!("{written} bytes were written, {sent} sent; {:?}", rounds(&told));
    let there = writer_at(&SID);
    assert_eq!((there.born(7000), rewritten(&there)), (born, pages));
    assert!(sent * 10 <= written * 12, "{sent} bytes for {written}: {told:?}");
}

#[test]
fn i2_a_container_that_writes_faster_than_the_link_carries_goes_on_where_it_runs() {
    let _turn = pair();
    let _tried = tried("`migrate --downtime` of a writer that is faster than the link is given up", &BOTH);
    let here = writer(5000);
    let born = here.born(7000);
    let command =
        "transship --json migrate writer --to sid --mode pre-copy --rate 1M --compress off --downtime 5s 2>&1";
    let given_up = TRIXIE.try_sh(command);
    let told = told(&String::from_utf8_lossy(&given_up.stdout));
    eprintln!("{:?}", rounds(&told));
    assert_eq!(given_up.status.code(), Some(1), "failed and undone: {told:?}");
    assert!(told.iter().all(|message| message["name"] != "freeze"), "it is never frozen: {told:?}");
    let text = |word: &str| told.iter().any(|message| message.to_string().contains(word));
    assert!(text("memory changes as fast as it is sent") && text("would be away for about"), "{told:?}");
    assert_eq!(here.born(7000), born);
    SID.within_seconds(60, "[ -z \"$(docker ps -aq)\" ]");
}
