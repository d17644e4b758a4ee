//! The peers' cases by duct.

use std::io::BufReader;

use duct::{cmd, Handle};
use peers::{count_lines, serve, threads, Programs, LINES_OF_A_PIPELINE, SIZE_OF_A_LINE};

fn capture(program: &str) {
    assert!(cmd!(program).stdout_capture().stderr_capture().run().unwrap().stdout.is_empty());
}

fn pipeline(feed: &str) {
    let whole = cmd!(feed, "lines", LINES_OF_A_PIPELINE.to_string()).pipe(cmd!(feed, "copy")).pipe(cmd!(feed, "copy"));
    let output = whole.stdout_capture().run().unwrap();
    assert_eq!(output.stdout.len(), LINES_OF_A_PIPELINE * SIZE_OF_A_LINE);
}

fn main() {
    let mut held: Vec<Handle> = Vec::new();
    serve(|Programs { exit, feed }, case, count| {
        match case {
            "spawn" => (0..count).for_each(|_| drop(cmd!(exit).run().unwrap())),
            "capture" => (0..count).for_each(|_| capture(exit)),
            "many" => threads(count, || capture(exit)),
            "big" => {
                let output = cmd!(feed, "bytes", count.to_string()).stdout_capture().stderr_capture().run().unwrap();
                assert_eq!(output.stdout.len(), count);
            }
            "lines" => {
                let reader = cmd!(feed, "lines", count.to_string()).reader().unwrap();
                assert_eq!(count_lines(BufReader::new(reader)), count);
            }
            "pipeline" => (0..count).for_each(|_| pipeline(feed)),
            "hold" => held.extend(
                (0..count).map(|_| cmd!(feed, "pause").stdout_capture().stderr_capture().unchecked().start().unwrap()),
            ),
            "drop" => held.drain(..).for_each(|handle| {
                handle.kill().unwrap();
                handle.wait().unwrap();
            }),
            _ => return false,
        }
        true
    });
}
