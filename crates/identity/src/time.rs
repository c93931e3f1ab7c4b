//! Points in time, in whole seconds, and the four ways the wire writes them.

use core::fmt;

/// A point in time: whole seconds since 1970-01-01T00:00:00Z. Leap seconds do not exist, as in POSIX.
///
/// Seconds are enough: every format on this wire has that resolution.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UnixTime(u64);

/// Tells the time. Implemented by the real clock at the rim of the program, and by one that tests set by hand.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> UnixTime;
}

/// A text that is not a point in time in the expected form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a point in time of the form {expected}")]
pub struct TimeError {
    expected: &'static str,
}

const BASIC: TimeError = TimeError { expected: "YYYYMMDDThhmmssZ" };
const RFC3339: TimeError = TimeError { expected: "YYYY-MM-DDThh:mm:ssZ" };
const HTTP: TimeError = TimeError { expected: "Sun, 06 Nov 1994 08:49:37 GMT" };

const SECONDS_PER_DAY: u64 = 86_400;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// 1970-01-01 was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// A date and time of day in UTC.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl UnixTime {
    /// The last second that the four-digit years of the wire can write: 9999-12-31T23:59:59Z.
    pub const MAX: UnixTime = UnixTime(253_402_300_799);

    /// From seconds since the epoch; anything past [`UnixTime::MAX`] becomes it.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        if seconds > Self::MAX.0 { Self::MAX } else { Self(seconds) }
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// This moment and `seconds` more, at most [`UnixTime::MAX`].
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self::from_secs(self.0.saturating_add(seconds))
    }

    /// This moment less `seconds`, at least the epoch.
    #[must_use]
    pub const fn minus(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }

    /// Seconds from `earlier` to this moment; 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `2026-11-23T05:29:00Z`, as in metadata documents. botocore accepts no other form there.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let c = self.civil();
        if c.year > 9999 {
            return format!("{}-{:02}-{:02}T{:02}:{:02}:{:02}Z", c.year, c.month, c.day, c.hour, c.minute, c.second);
        }
        // In every line of the audit, so not by the formatting machinery.
        let mut text = String::with_capacity("2026-11-23T05:29:00Z".len());
        push_two_digits(&mut text, c.year / 100);
        push_two_digits(&mut text, c.year % 100);
        let rest = [('-', c.month), ('-', c.day), ('T', c.hour), (':', c.minute), (':', c.second)];
        for (before, number) in rest {
            text.push(before);
            push_two_digits(&mut text, number);
        }
        text.push('Z');
        text
    }

    /// `20261123T052900Z`, as in `X-Amz-Date`.
    #[must_use]
    pub fn basic(self) -> String {
        let c = self.civil();
        format!("{:04}{:02}{:02}T{:02}{:02}{:02}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
    }

    /// `Mon, 23 Nov 2026 05:29:00 GMT`, as in the `Date` header (RFC 9110 §5.6.7).
    #[must_use]
    pub fn http_date(self) -> String {
        let c = self.civil();
        let weekday = pick(&WEEKDAYS, self.0 / SECONDS_PER_DAY % 7);
        let month = pick(&MONTHS, c.month - 1);
        // Once per answer of every server here, so not by the formatting machinery.
        let mut text = String::with_capacity("Mon, 23 Nov 2026 05:29:00 GMT".len());
        text.push_str(weekday);
        text.push_str(", ");
        push_two_digits(&mut text, c.day);
        text.push(' ');
        text.push_str(month);
        text.push(' ');
        push_two_digits(&mut text, c.year / 100);
        push_two_digits(&mut text, c.year % 100);
        for (before, number) in [(' ', c.hour), (':', c.minute), (':', c.second)] {
            text.push(before);
            push_two_digits(&mut text, number);
        }
        text.push_str(" GMT");
        text
    }

    /// Reads `20261123T052900Z` and nothing else.
    ///
    /// # Errors
    /// Another form, or a date that does not exist.
    pub fn parse_basic(text: &[u8]) -> Result<Self, TimeError> {
        let [y1, y2, y3, y4, m1, m2, d1, d2, b'T', h1, h2, n1, n2, s1, s2, b'Z'] = *text else { return Err(BASIC) };
        Self::assemble([y1, y2, y3, y4, m1, m2, d1, d2, h1, h2, n1, n2, s1, s2]).ok_or(BASIC)
    }

    /// Reads `2026-11-23T05:29:00Z`, with or without a fraction of at most nine digits, which is dropped.
    ///
    /// # Errors
    /// Another form, or a date that does not exist.
    pub fn parse_rfc3339(text: &[u8]) -> Result<Self, TimeError> {
        let (seconds, fraction) = text.split_at_checked(19).ok_or(RFC3339)?;
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2] = *seconds else {
            return Err(RFC3339);
        };
        match fraction {
            [b'Z'] => {}
            [b'.', digits @ .., b'Z']
                if !digits.is_empty() && digits.len() <= 9 && digits.iter().all(u8::is_ascii_digit) => {}
            _ => return Err(RFC3339),
        }
        Self::assemble([y1, y2, y3, y4, m1, m2, d1, d2, h1, h2, n1, n2, s1, s2]).ok_or(RFC3339)
    }

    /// Reads `Mon, 23 Nov 2026 05:29:00 GMT`. The weekday must be a weekday, but is not compared with the date.
    ///
    /// # Errors
    /// Another form (the two obsolete ones of RFC 9110 included), or a date that does not exist.
    pub fn parse_http_date(text: &[u8]) -> Result<Self, TimeError> {
        let [w1, w2, w3, b',', b' ', d1, d2, b' ', m1, m2, m3, b' ', y1, y2, y3, y4, b' ', rest @ ..] = text else {
            return Err(HTTP);
        };
        let [h1, h2, b':', n1, n2, b':', s1, s2, b' ', b'G', b'M', b'T'] = *rest else { return Err(HTTP) };
        if !WEEKDAYS.iter().any(|name| name.as_bytes() == [*w1, *w2, *w3]) {
            return Err(HTTP);
        }
        let month = MONTHS.iter().position(|name| name.as_bytes() == [*m1, *m2, *m3]).ok_or(HTTP)? + 1;
        let [m1, m2] = [month / 10, month % 10].map(|digit| u8::try_from(digit).map_or(0, |digit| b'0' + digit));
        Self::assemble([*y1, *y2, *y3, *y4, m1, m2, *d1, *d2, h1, h2, n1, n2, s1, s2]).ok_or(HTTP)
    }

    /// From the digits of year, month, day, hour, minute and second.
    fn assemble(digits: [u8; 14]) -> Option<Self> {
        if !digits.iter().fold(true, |all, digit| all & digit.is_ascii_digit()) {
            return None;
        }
        let [y1, y2, y3, y4, m1, m2, d1, d2, h1, h2, n1, n2, s1, s2] = digits;
        let number = |tens: u8, ones: u8| u64::from(tens & 15) * 10 + u64::from(ones & 15);
        let (year, month, day) = (number(y1, y2) * 100 + number(y3, y4), number(m1, m2), number(d1, d2));
        let (hour, minute, second) = (number(h1, h2), number(n1, n2), number(s1, s2));
        let exists = year >= 1970
            && (1..=12).contains(&month)
            && day >= 1
            && day <= days_in_month(year, month)
            && hour < 24
            && minute < 60
            && second < 60;
        exists.then(|| Self(days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second))
    }

    /// Days to date after Howard Hinnant's `civil_from_days`, for years from 1970 on.
    fn civil(self) -> Civil {
        let (days, of_day) = (self.0 / SECONDS_PER_DAY, self.0 % SECONDS_PER_DAY);
        let z = days + 719_468;
        let (era, doe) = (z / 146_097, z % 146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        Civil {
            year: yoe + era * 400 + u64::from(month <= 2),
            month,
            day: doy - (153 * mp + 2) / 5 + 1,
            hour: of_day / 3600,
            minute: of_day % 3600 / 60,
            second: of_day % 60,
        }
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

fn pick<'a>(names: &[&'a str], index: u64) -> &'a str {
    usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or("")
}

fn push_two_digits(text: &mut String, number: u64) {
    for digit in [number / 10 % 10, number % 10] {
        text.extend(u32::try_from(digit).ok().and_then(|digit| char::from_digit(digit, 10)));
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Date to days after Howard Hinnant's `days_from_civil`, for years from 1970 on.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let y = if month <= 2 { year - 1 } else { year };
    let (era, yoe) = (y / 400, y % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * shifted + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The moment of the AWS signing vectors, and its texts from them.
    const VECTOR: UnixTime = UnixTime(1_440_938_160);

    #[test]
    fn prints_the_four_forms() {
        assert_eq!(VECTOR.basic(), "20150830T123600Z");
        assert_eq!(VECTOR.rfc3339(), "2015-08-30T12:36:00Z");
        assert_eq!(VECTOR.http_date(), "Sun, 30 Aug 2015 12:36:00 GMT");
        assert_eq!(UnixTime::from_secs(0).http_date(), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(UnixTime::MAX.rfc3339(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn knows_leap_days() {
        assert_eq!(UnixTime::parse_basic(b"20000229T000000Z").map(UnixTime::as_secs), Ok(951_782_400));
        assert_eq!(UnixTime::parse_basic(b"21000229T000000Z"), Err(BASIC));
        assert_eq!(UnixTime::parse_basic(b"20240229T000000Z").map(UnixTime::rfc3339).unwrap(), "2024-02-29T00:00:00Z");
    }

    #[test]
    fn refuses_what_is_nearly_a_time() {
        let wrong = ["", "20150830T123600", "20150830T123600Z ", "20150830t123600z", "2015-08-30T12:36:00Z"];
        for text in
            wrong.into_iter().chain(["20151330T123600Z", "20150830T243600Z", "20150830T126000Z", "2015083àT123600"])
        {
            assert_eq!(UnixTime::parse_basic(text.as_bytes()), Err(BASIC), "{text}");
        }
        for text in
            ["2015-08-30T12:36:00", "2015-08-30T12:36:00.Z", "2015-08-30T12:36:00.1234567890Z", "2015-08-30 12:36:00Z"]
        {
            assert_eq!(UnixTime::parse_rfc3339(text.as_bytes()), Err(RFC3339), "{text}");
        }
        for text in ["Sun, 30 Aug 2015 12:36:00 UTC", "Sunday, 30-Aug-15 12:36:00 GMT", "Xxx, 30 Aug 2015 12:36:00 GMT"]
        {
            assert_eq!(UnixTime::parse_http_date(text.as_bytes()), Err(HTTP), "{text}");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(UnixTime::MAX.plus(1), UnixTime::MAX);
        assert_eq!(UnixTime::from_secs(5).minus(6), UnixTime::from_secs(0));
        assert_eq!(UnixTime::from_secs(5).since(UnixTime::from_secs(6)), 0);
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(seconds in 0..=UnixTime::MAX.0) {
            let time = UnixTime(seconds);
            prop_assert_eq!(UnixTime::parse_basic(time.basic().as_bytes()), Ok(time));
            prop_assert_eq!(UnixTime::parse_rfc3339(time.rfc3339().as_bytes()), Ok(time));
            prop_assert_eq!(UnixTime::parse_http_date(time.http_date().as_bytes()), Ok(time));
        }
    }
}
