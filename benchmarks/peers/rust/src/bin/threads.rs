//! Many captured children by threads of the standard library: a round for each line on stdin, its nanoseconds on stdout.
//!
//!     threads PROGRAM COUNT AT_ONCE

use std::io::{self, BufRead, Write};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (count, at_once): (usize, usize) = (args[2].parse().unwrap(), args[3].parse().unwrap());
    let next = Arc::new(AtomicUsize::new(count));
    let barrier = Arc::new(Barrier::new(at_once + 1));
    for _ in 0..at_once {
        let (program, next, barrier) = (args[1].clone(), next.clone(), barrier.clone());
        thread::spawn(move || loop {
            barrier.wait();
            while next.fetch_add(1, Ordering::Relaxed) < count {
                let output = Command::new(&program).output().unwrap();
                assert!(output.status.success() && output.stdout.is_empty());
            }
            barrier.wait();
        });
    }
    for line in io::stdin().lock().lines() {
        line.unwrap();
        next.store(0, Ordering::Relaxed);
        let begin = Instant::now();
        barrier.wait();
        barrier.wait();
        println!("{}", begin.elapsed().as_nanos());
        io::stdout().flush().unwrap();
    }
}
