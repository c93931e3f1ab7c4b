//! What the metadata service costs and holds:
//!
//! - CPU of the server for a request, beside the same server answering a constant and beside nginx with a static file;
//! - the wait of one guest while another asks as much as it can;
//! - memory and threads of a thousand attached machines.
//!
//! What is compared takes turns within one run, and each figure is given with its spread. The rest is chosen by name:
//! `cargo bench -p inborn-host --bench metadata -- cpu`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, clippy::panic, reason = "a benchmark")]

mod cpu;
mod guests;
mod lab;
mod neighbours;
mod nginx;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to see that it starts.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let wanted: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with('-')).collect();
    let runs: [(&str, fn()); 3] = [("cpu", cpu::run), ("neighbours", neighbours::run), ("guests", guests::run)];
    for (name, run) in runs {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted)) {
            run();
        }
    }
}

/// Smallest, median and largest.
fn spread(figures: &mut [f64]) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[0], figures[figures.len() / 2], figures[figures.len() - 1])
}
