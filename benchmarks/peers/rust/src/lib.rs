//! What the programs here share: questions on stdin, answers on stdout (../README.md), and what is held between them.

use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

pub const AT_ONCE: usize = 100;
pub const LINES_OF_A_PIPELINE: usize = 300;
pub const SIZE_OF_A_LINE: usize = 32;

/// The two programs that the children execute.
#[derive(Clone)]
pub struct Programs {
    pub exit: String,
    pub feed: String,
}

/// Answers each line `CASE COUNT` with the nanoseconds it took, or `-` where the case is not known.
pub fn serve(mut run: impl FnMut(&Programs, &str, usize) -> bool) {
    let args: Vec<String> = std::env::args().collect();
    let programs = Programs { exit: args[1].clone(), feed: args[2].clone() };
    let mut ballast: Vec<Vec<u8>> = Vec::new();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let (case, count) = line.split_once(' ').unwrap();
        let count = count.parse().unwrap();
        let begin = Instant::now();
        let known = if case == "ballast" {
            ballast.push(vec![1; count]);
            true
        } else {
            run(&programs, case, count)
        };
        if known {
            println!("{}", begin.elapsed().as_nanos());
        } else {
            println!("-");
        }
        io::stdout().flush().unwrap();
    }
}

/// Does something `count` times by AT_ONCE threads.
pub fn threads(count: usize, work: impl Fn() + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    work();
                }
            });
        }
    });
}

/// Counts the lines of a reader, each of which is made.
pub fn count_lines(mut reader: impl BufRead) -> usize {
    let (mut seen, mut line) = (0, Vec::new());
    while reader.read_until(b'\n', &mut line).unwrap() > 0 {
        assert_eq!(line.len(), SIZE_OF_A_LINE);
        line.clear();
        seen += 1;
    }
    seen
}
