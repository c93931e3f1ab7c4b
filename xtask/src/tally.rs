//! How many tests ran: read from the closing lines of cargo's test runner and of pytest.

use anyhow::{Result, bail};

/// Counts, and the reasons to call the run a failure even where every counted test passed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    problems: Vec<String>,
}

impl Tally {
    /// Takes in one line of output; lines that close no run change nothing.
    pub(crate) fn read_line(&mut self, line: &str) {
        let line = line.trim().trim_matches('=').trim();
        if let Some(result) = line.strip_prefix("test result:") {
            self.add(result.split([';', '.']));
        } else if line.contains(" in ") && line.starts_with(|c: char| c.is_ascii_digit()) {
            self.add(line.split(" in ").take(1).flat_map(|counts| counts.split(',')));
        }
    }

    fn add<'a>(&mut self, counts: impl Iterator<Item = &'a str>) {
        for count in counts {
            let mut words = count.split_whitespace();
            let (Some(number), Some(what), None) = (words.next(), words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" | "error" | "errors" => self.failed += number,
                "ignored" | "skipped" => self.skipped += number,
                _ => {}
            }
        }
    }

    pub(crate) fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.problems.extend(other.problems);
    }

    /// An error unless something ran and nothing failed.
    pub(crate) fn verdict(&self) -> Result<()> {
        for problem in &self.problems {
            println!("{problem}");
        }
        if self.failed > 0 || !self.problems.is_empty() {
            bail!("tests failed");
        }
        if self.passed == 0 {
            bail!("no test ran");
        }
        Ok(())
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn read(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.read_line(line);
        }
        tally
    }

    #[test]
    fn cargo_and_pytest_are_added_up() {
        let tally = read(&[
            "running 3 tests",
            "test tests::one ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.02s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
            "=========== 1 failed, 40 passed, 2 skipped, 1 error in 63.10s (0:01:03) ===========",
        ]);
        assert_eq!((tally.passed, tally.failed, tally.skipped), (47, 4, 3));
        assert_eq!(tally.to_string(), "47 passed, 4 failed, 3 skipped");
        assert!(tally.verdict().is_err());
    }

    #[test]
    fn other_lines_count_for_nothing() {
        assert_eq!(read(&["5 passed through the gate", "in all 7 failed", "ready in 2 s"]), Tally::default());
    }

    #[test]
    fn nothing_ran_is_no_success() {
        assert_eq!(Tally::default().verdict().unwrap_err().to_string(), "no test ran");
    }

    #[test]
    fn a_runner_that_died_is_no_success() {
        let mut tally = read(&["test result: ok. 3 passed; 0 failed; 0 ignored"]);
        assert!(tally.verdict().is_ok());
        tally.problem("killed".into());
        assert!(tally.verdict().is_err());
    }
}
