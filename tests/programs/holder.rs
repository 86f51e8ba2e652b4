//! Holds memory that can be verified: `holder PORT MIB [DIRTY-PAGES-PER-SECOND]`
//!
//! Every page has content of its own that depends on how often it was rewritten. `check` is answered with `ok ...`
//! when all of it is as it should be, and with the first page that is not. `rewrite N` rewrites the first N pages before.
//! With `--until-eof` the program ends with its standard input.

mod common;

use common::payload;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PAGE: usize = 4096;
/// Rewrites come in bursts this far apart.
const BURST: Duration = Duration::from_millis(20);

struct Memory {
    bytes: Vec<u8>,
    versions: Vec<u64>,
    rewritten: u64,
}

impl Memory {
    fn new(pages: usize) -> Self {
        let mut memory = Self { bytes: vec![0; pages * PAGE], versions: vec![0; pages], rewritten: 0 };
        for (number, page) in memory.bytes.chunks_exact_mut(PAGE).enumerate() {
            payload::page(number as u64, 0, page);
        }
        memory
    }

    /// One that nobody foresees.
    fn rewrite_any(&mut self) {
        self.rewrite((payload::mix(self.rewritten) % self.versions.len() as u64) as usize);
    }

    fn rewrite(&mut self, number: usize) {
        self.versions[number] += 1;
        let page = &mut self.bytes[number * PAGE..(number + 1) * PAGE];
        payload::page(number as u64, self.versions[number], page);
        self.rewritten += 1;
    }

    fn check(&self) -> Result<(), String> {
        let mut wanted = [0; PAGE];
        for (number, page) in self.bytes.chunks_exact(PAGE).enumerate() {
            payload::page(number as u64, self.versions[number], &mut wanted);
            if page != wanted {
                return Err(format!("page {number} is not what it was, after {} rewrites", self.versions[number]));
            }
        }
        Ok(())
    }
}

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let until_eof = words.iter().position(|word| word == "--until-eof").map(|at| words.remove(at)).is_some();
    let number = |at: usize, otherwise| words.get(at).map_or(otherwise, |word| word.parse::<u64>().expect("a number"));
    let port = u16::try_from(number(0, 7000)).expect("a port");
    let pages = (number(1, 16) as usize) << 20 >> 12;
    let rate = number(2, 0);
    common::end_on_sigterm();
    let memory = Arc::new(Mutex::new(Memory::new(pages)));
    if rate > 0 {
        let memory = Arc::clone(&memory);
        std::thread::spawn(move || dirty(&memory, rate));
    }
    if until_eof {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
    }
    let birth = common::birth();
    let answer = move |line: &str| {
        let mut memory = memory.lock().expect("no thread panics");
        let rewrites = match line.split_once(' ') {
            None if line == "check" => Some(0),
            Some(("rewrite", number)) => number.parse::<usize>().ok(),
            _ => None,
        };
        let Some(rewrites) = rewrites else { return format!("wrong: there is no {line:?}") };
        (0..rewrites).for_each(|number| memory.rewrite(number % pages));
        match memory.check() {
            Ok(()) => format!("ok born={birth} pages={pages} rewritten={}", memory.rewritten),
            Err(reason) => format!("wrong: {reason}"),
        }
    };
    common::server::serve(port, Arc::new(answer));
}

fn dirty(memory: &Mutex<Memory>, rate: u64) {
    let burst = (rate * BURST.as_millis() as u64 / 1000).max(1);
    loop {
        {
            let mut memory = memory.lock().expect("no thread panics");
            (0..burst).for_each(|_| memory.rewrite_any());
        }
        std::thread::sleep(BURST);
    }
}
