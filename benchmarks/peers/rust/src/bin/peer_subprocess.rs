//! The peers' cases by the crate subprocess.

use std::io::BufReader;

use peers::{count_lines, serve, threads, Programs, LINES_OF_A_PIPELINE, SIZE_OF_A_LINE};
use subprocess::{Exec, Job, Redirection};

fn capture(program: &str) {
    let got = Exec::cmd(program).stdout(Redirection::Pipe).stderr(Redirection::Pipe).capture().unwrap();
    assert!(got.success() && got.stdout.is_empty());
}

fn pipeline(feed: &str) {
    let first = Exec::cmd(feed).arg("lines").arg(LINES_OF_A_PIPELINE.to_string());
    let got = (first | Exec::cmd(feed).arg("copy") | Exec::cmd(feed).arg("copy")).capture().unwrap();
    assert!(got.success() && got.stdout.len() == LINES_OF_A_PIPELINE * SIZE_OF_A_LINE);
}

fn main() {
    let mut held: Vec<Job> = Vec::new();
    serve(|Programs { exit, feed }, case, count| {
        match case {
            "spawn" => (0..count).for_each(|_| assert!(Exec::cmd(exit).join().unwrap().success())),
            "capture" => (0..count).for_each(|_| capture(exit)),
            "many" => threads(count, || capture(exit)),
            "big" => {
                let wanted = Exec::cmd(feed).arg("bytes").arg(count.to_string());
                let got = wanted.stdout(Redirection::Pipe).stderr(Redirection::Pipe).capture().unwrap();
                assert!(got.success() && got.stdout.len() == count);
            }
            "lines" => {
                let reader = Exec::cmd(feed).arg("lines").arg(count.to_string()).stream_stdout().unwrap();
                assert_eq!(count_lines(BufReader::new(reader)), count);
            }
            "pipeline" => (0..count).for_each(|_| pipeline(feed)),
            "hold" => held.extend((0..count).map(|_| {
                let wanted = Exec::cmd(feed).arg("pause").stdout(Redirection::Pipe).stderr(Redirection::Pipe);
                wanted.start().unwrap()
            })),
            "drop" => held.drain(..).for_each(|job| {
                job.kill().unwrap();
                job.wait().unwrap();
            }),
            _ => return false,
        }
        true
    });
}
