//! Standard input: what laurel or Falco writes, a line at a time.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};

use super::audit::events_of;
use super::event::{Event, Provider};
use super::outlet::{Counts, Outlet};
use super::source::{Running, Source};
use super::{falco, laurel};

/// Bytes of one line; what is longer is passed over and counted.
pub(crate) const LINE_BYTES_MAX: usize = 256 * 1024;

/// Who writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Laurel,
    Falco,
}

/// The events of one line; none if it is not of the format. An event of audit that means nothing here is understood as well.
fn understand(format: Format, line: &[u8]) -> Option<Vec<Event>> {
    match format {
        Format::Laurel => laurel::parse(line).map(|group| events_of(&group, Provider::Laurel)),
        Format::Falco => Some(falco::parse(line)).filter(|events| !events.is_empty()),
    }
}

/// The source.
pub(crate) struct Lines {
    pub(crate) format: Format,
    pub(crate) input: Pin<Box<dyn AsyncRead + Send>>,
}

impl Source for Lines {
    fn name(&self) -> &'static str {
        match self.format {
            Format::Laurel => "laurel",
            Format::Falco => "falco",
        }
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Running {
        Box::pin(async move {
            let mut input = BufReader::new(self.input);
            let mut line = Vec::new();
            while read_line(&mut input, &mut line, &outlet.counts().unreadable).await? {
                match understand(self.format, &line) {
                    Some(events) => {
                        for event in &events {
                            outlet.put(event).await;
                        }
                    }
                    None if line.trim_ascii().is_empty() => {}
                    None => Counts::add(&outlet.counts().unreadable, 1),
                }
            }
            Ok(())
        })
    }
}

/// Reads a line into `line`, without its end; false at the end of the input. Lines that are too long are counted.
async fn read_line(
    input: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    too_long: &AtomicU64,
) -> io::Result<bool> {
    line.clear();
    let mut is_too_long = false;
    loop {
        let buffer = input.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        if line.len() + piece.len() > LINE_BYTES_MAX {
            is_too_long = true;
            line.clear();
        } else if !is_too_long {
            line.extend_from_slice(piece);
        }
        let used = end.map_or(buffer.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            if !is_too_long {
                return Ok(true);
            }
            too_long.fetch_add(1, Ordering::Relaxed);
            is_too_long = false;
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_below_at_and_above_the_limit() {
        let text =
            [LINE_BYTES_MAX - 1, LINE_BYTES_MAX, LINE_BYTES_MAX + 1, 3].map(|length| "x".repeat(length)).join("\n");
        let mut input = BufReader::new(text.as_bytes());
        let (mut line, too_long) = (Vec::new(), AtomicU64::new(0));
        let mut lengths = Vec::new();
        while read_line(&mut input, &mut line, &too_long).await.unwrap() {
            lengths.push(line.len());
        }
        assert_eq!((lengths, too_long.into_inner()), (vec![LINE_BYTES_MAX - 1, LINE_BYTES_MAX, 3], 1));
    }

    #[test]
    fn no_bytes_panic() {
        proptest::proptest!(|(bytes: Vec<u8>)| {
            understand(Format::Laurel, &bytes);
            understand(Format::Falco, &bytes);
        });
        proptest::proptest!(|(text in r#"\{"ID":"[0-9.:]{0,20}","SYSCALL":\{"[a-z0-9]{1,8}":("[0-9a-fx]{0,20}"|[0-9]{0,20})\}\}"#)| {
            understand(Format::Laurel, text.as_bytes());
        });
    }
}
