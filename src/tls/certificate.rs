//! Pure. What an operator asks of a certificate: its serial number, from when on it is valid, and when it expires.
//!
//! Four fields at the front of a certificate (RFC 5280 §4.1) are no reason for an X.509 stack. Not here: whether the
//! certificate is any good; rustls decides that, and its clients do.

/// What logs and metrics say about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// The serial number as `openssl x509 -serial` prints it: hexadecimal.
    pub(crate) serial: String,
    /// The first second in which it is valid.
    pub(crate) not_before: Moment,
    /// The last second in which it is valid.
    pub(crate) not_after: Moment,
}

/// A point in calendar time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// `2026-11-22T08:00:00Z`.
    pub(crate) text: String,
    /// Seconds since 1970; what was before that counts as 0.
    pub(crate) unix: u64,
}

// DER tags (X.690 §8); [0] is the certificate's explicit version.
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// Reads what is needed of a certificate in DER; `None` if it is none.
pub(crate) fn parse(der: &[u8]) -> Option<Certificate> {
    let mut certificate = expect(&mut { der }, SEQUENCE)?;
    let mut body = expect(&mut certificate, SEQUENCE)?;
    if body.first() == Some(&VERSION) {
        expect(&mut body, VERSION)?;
    }
    let serial = expect(&mut body, INTEGER)?;
    let _signature_algorithm = expect(&mut body, SEQUENCE)?;
    let _issuer = expect(&mut body, SEQUENCE)?;
    let mut validity = expect(&mut body, SEQUENCE)?;
    let mut next = || element(&mut validity).and_then(|(tag, content)| moment(tag, content));
    let (not_before, not_after) = (next()?, next()?);
    Some(Certificate { serial: hexadecimal(serial), not_before, not_after })
}

/// Takes one element off `input`: its tag and its content.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], mut rest) = input.split_first_chunk()?;
    let length = match first {
        0..=0x7f => usize::from(first),
        // Four bytes of length are more than any certificate has.
        0x81..=0x84 => {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit))
        }
        0x80 | 0x85..=0xff => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    *input = after;
    Some((tag, content))
}

fn expect<'a>(input: &mut &'a [u8], expected: u8) -> Option<&'a [u8]> {
    element(input).filter(|(tag, _)| *tag == expected).map(|(_, content)| content)
}

fn hexadecimal(bytes: &[u8]) -> String {
    // A zero byte in front keeps the number from being negative.
    let digits = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    digits.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
fn moment(tag: u8, content: &[u8]) -> Option<Moment> {
    let digits = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let full = match (tag, digits.len()) {
        // RFC 5280 §4.1.2.5.1: two digits from 50 on are in the twentieth century.
        (UTC_TIME, 12) if digits >= "50" => format!("19{digits}"),
        (UTC_TIME, 12) => format!("20{digits}"),
        (GENERALIZED_TIME, 14) => digits.to_owned(),
        (_, _) => return None,
    };
    if !full.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| full[from..to].parse::<u64>().ok();
    let days = days_since_1970(number(0, 4)?, number(4, 6)?, number(6, 8)?)?;
    let (hours, minutes, seconds) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &full[..4],
        &full[4..6],
        &full[6..8],
        &full[8..10],
        &full[10..12],
        &full[12..]
    );
    Some(Moment { text, unix: days * 86_400 + hours * 3600 + minutes * 60 + seconds })
}

/// Days from 1970-01-01 in the Gregorian calendar; years count from March, so that the odd day comes last
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if year < 1970 {
        return Some(0);
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    /// Days from the first of March of year 0 to 1970-01-01.
    const TO_1970: u64 = 719_468;
    days.checked_sub(TO_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tag: u8, content: &str, text: &str, unix: u64) {
        let expected = Moment { text: text.to_owned(), unix };
        assert_eq!(moment(tag, content.as_bytes()), Some(expected), "{content}");
    }

    #[test]
    fn calendar_time_is_counted_in_seconds() {
        // As `date -u -d … +%s` has them.
        check(UTC_TIME, "700101000000Z", "1970-01-01T00:00:00Z", 0);
        check(UTC_TIME, "261122080102Z", "2026-11-22T08:01:02Z", 1_795_334_462);
        check(UTC_TIME, "240229235959Z", "2024-02-29T23:59:59Z", 1_709_251_199);
        check(GENERALIZED_TIME, "20500101000000Z", "2050-01-01T00:00:00Z", 2_524_608_000);
        check(GENERALIZED_TIME, "99991231235959Z", "9999-12-31T23:59:59Z", 253_402_300_799);
        check(UTC_TIME, "500101000000Z", "1950-01-01T00:00:00Z", 0);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for content in ["", "Z", "2611220801Z", "261122080102", "26112208010aZ", "261322080102Z"] {
            assert_eq!(moment(UTC_TIME, content.as_bytes()), None, "{content}");
        }
        assert_eq!(moment(INTEGER, b"261122080102Z"), None);
    }

    #[test]
    fn what_is_cut_short_is_no_certificate() {
        let mut params = rcgen::CertificateParams::new(vec!["app.test".to_owned()]).unwrap();
        params.serial_number = Some(vec![0x8a, 0x01, 0x02].into());
        params.not_before = rcgen::date_time_ymd(2029, 3, 4);
        params.not_after = rcgen::date_time_ymd(2031, 5, 6);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der();
        let found = parse(der).unwrap();
        assert_eq!(found.serial, "8A0102");
        assert_eq!(found.not_before.text, "2029-03-04T00:00:00Z");
        assert_eq!(found.not_after.text, "2031-05-06T00:00:00Z");
        for length in 0..der.len() {
            assert_eq!(parse(&der[..length]), None, "{length} bytes");
        }
    }
}
