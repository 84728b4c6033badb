//! Values with units: `30s`, `512 MiB`.

use std::time::Duration;

const SIZES: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const PERIODS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a size in bytes: a number alone, or with `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`, `TiB`.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    scaled(text, &SIZES)
}

/// Reads a duration: a number with `ms`, `s`, `m`, `h`, or `d`. The unit may be missing for 0 only.
#[must_use]
pub fn period(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    scaled(text, &PERIODS).map(Duration::from_millis)
}

/// Writes a size in the largest binary unit that divides it.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let unit =
        SIZES.iter().skip(6).rev().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match unit {
        Some((name, unit)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

/// Writes a duration in the largest unit that divides it.
#[must_use]
pub fn show_period(milliseconds: u64) -> String {
    let unit =
        PERIODS.iter().rev().find(|(_, u)| milliseconds >= *u && milliseconds.is_multiple_of(*u));
    match unit {
        Some((name, unit)) => format!("{}{name}", milliseconds / unit),
        None => "0s".to_owned(),
    }
}

/// Reads digits (with `_` between them) and one of the units; blanks may stand between.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(split)?;
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?.1;
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("500000", Some(500_000)),
            ("512 MiB", Some(536_870_912)),
            ("8GiB", Some(8 << 30)),
            ("1 kB", Some(1000)),
            ("500_000 B", Some(500_000)),
            ("1.5 MB", None),
            ("12 mb", None),
            ("MiB", None),
            ("-1", None),
            ("", None),
            ("99999999999999999999", None),
            ("99999999999 TiB", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in [
            ("20ms", Some(20)),
            ("1s", Some(1000)),
            ("5 m", Some(300_000)),
            ("24h", Some(86_400_000)),
            ("90d", Some(7_776_000_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("30", None),
            ("30 sec", None),
            ("s", None),
        ] {
            assert_eq!(period(text), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn bounds_are_written_as_they_are_read() {
        assert_eq!(show_size(512 << 20), "512 MiB");
        assert_eq!(show_size(500_000), "500000 bytes");
        assert_eq!(show_period(86_400_000), "1d");
        assert_eq!(show_period(1500), "1500ms");
        assert_eq!(show_period(0), "0s");
    }
}
