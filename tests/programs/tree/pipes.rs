//! A pipe and a fifo that are always full, so that there is always something in them.

use super::Turn;
use super::board::{beside, ensure, failed};
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, pipe};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

/// Numbers read in a turn.
const NUMBERS: usize = 512;

pub fn role(directory: &Path) -> Result<Turn, String> {
    let (pipe_out, pipe_in) = pipe().map_err(failed("pipe"))?;
    let path = directory.join("tree.fifo");
    let _ = std::fs::remove_file(&path);
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed("mkfifo"))?;
    // Opened for both, which does not wait for the other end.
    let fifo = OpenOptions::new().read(true).write(true).open(&path).map_err(failed("fifo"))?;
    let fifo_in = fifo.try_clone().map_err(failed("fifo"))?;
    for input in [File::from(pipe_in), fifo_in] {
        beside(move || fill(input))?;
    }
    let mut outputs = [("pipe", File::from(pipe_out), 0_u64), ("fifo", fifo, 0)];
    let turn = move || {
        for (name, output, next) in &mut outputs {
            let mut block = [0; NUMBERS * 8];
            output.read_exact(&mut block).map_err(failed(name))?;
            for word in block.chunks_exact(8) {
                let number = u64::from_le_bytes(word.try_into().expect("8 bytes"));
                ensure(number == *next, || format!("{name}: {number} came instead of {next}"))?;
                *next += 1;
            }
        }
        Ok(())
    };
    Ok(Box::new(turn))
}

fn fill(mut input: File) -> Result<(), String> {
    for number in 0_u64.. {
        input.write_all(&number.to_le_bytes()).map_err(failed("fill"))?;
    }
    Ok(())
}
