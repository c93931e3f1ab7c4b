//! Pages of a list that is made anew for each call.

use inborn_wire::constraint;
use inborn_wire::error::Problem;
use inborn_wire::json::Object;

use super::refusal;

/// Most entries of a page, and as many as there are if the caller does not say. Source: botocore's model, `MaxResults`.
const ENTRIES_MAX: usize = 50;

/// Which part of a list: behind so many entries, so many at most. Its token is where the next one begins: nothing to keep,
/// and nothing to leak that the caller has not seen.
pub(super) struct Page {
    list: &'static str,
    skip: usize,
    limit: usize,
}

impl Page {
    /// `MaxResults` and `NextToken`, for a list of this name.
    pub(super) fn read(input: &Object, list: &'static str) -> Result<Self, Problem> {
        let limit = match input.integer("MaxResults")? {
            Some(most) => {
                constraint::range("MaxResults", most, 1..=50)?;
                usize::try_from(most).unwrap_or(ENTRIES_MAX)
            }
            None => ENTRIES_MAX,
        };
        let skip = match input.text("NextToken")? {
            Some(token) => {
                let number = token.strip_prefix(list).and_then(|rest| rest.strip_prefix("-1-"));
                number.and_then(|number| number.parse().ok()).ok_or_else(refusal::next_token)?
            }
            None => 0,
        };
        Ok(Self { list, skip, limit })
    }

    /// The part of a list, and the token of the next one, if there is more.
    pub(super) fn of<T>(&self, all: Vec<T>) -> (Vec<T>, Option<String>) {
        let end = self.skip.saturating_add(self.limit);
        let next = (all.len() > end).then(|| format!("{}-1-{end}", self.list));
        (all.into_iter().skip(self.skip).take(self.limit).collect(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Result<Page, Problem> {
        Page::read(&inborn_wire::json::decode(text.as_bytes()).unwrap(), "list")
    }

    #[test]
    fn pages_have_no_gaps() {
        let all: Vec<usize> = (0..7).collect();
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let (part, next) = page(&format!(r#"{{"MaxResults":3{token}}}"#)).unwrap().of(all.clone());
            found.extend(part);
            match next {
                Some(next) => token = format!(r#","NextToken":"{next}""#),
                None => break,
            }
        }
        assert_eq!(found, all);
        assert_eq!(page("{}").unwrap().of(vec![0; 50]).1, None);
        assert_eq!(page("{}").unwrap().of(vec![0; 51]).0.len(), 50);
    }

    #[test]
    fn what_is_no_page() {
        for bad in ["\"x\"", "\"list-1-\"", "\"list-1--1\"", "\"other-1-3\"", "\"list-1-99999999999999999999\""] {
            assert!(page(&format!(r#"{{"NextToken":{bad}}}"#)).is_err(), "{bad}");
        }
        for (most, is_good) in [(0, false), (1, true), (50, true), (51, false)] {
            assert_eq!(page(&format!(r#"{{"MaxResults":{most}}}"#)).is_ok(), is_good, "{most}");
        }
    }
}
