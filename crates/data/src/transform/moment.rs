//! When somebody asks, and for what.

use super::cell::Cell;

/// The context of a request. A clock alone will do: `clock.into()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment<'a> {
    /// The clock: seconds since 1970 where the data set has times.
    pub clock: i64,
    /// What the user searched for.
    pub query: Option<&'a str>,
}

impl From<i64> for Moment<'_> {
    fn from(clock: i64) -> Self {
        Self { clock, query: None }
    }
}

/// What can be asked of a moment.
pub(super) const COLUMNS: [&str; 4] = ["hour", "weekday", "month", "query"];

const DAY: i64 = 86_400;

impl<'a> Moment<'a> {
    /// The value of one of [`COLUMNS`]; those of the calendar are missing where clocks are no times.
    pub(super) fn get(&self, column: &str, real_times: bool) -> Option<Cell<'a>> {
        let day = self.clock.div_euclid(DAY);
        let number = match column {
            "query" => return self.query.and_then(Cell::text),
            _ if !real_times => return None,
            "hour" => self.clock.rem_euclid(DAY) / 3_600,
            // 1970 began on a Thursday.
            "weekday" => (day + 3).rem_euclid(7),
            "month" => month(day),
            _ => return None,
        };
        Cell::number(number as f64)
    }
}

/// Month (1–12) of a day counted from 1970, in the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn month(day: i64) -> i64 {
    // Years are taken to begin in March, so that the leap day comes last.
    let of_era = (day + 719_468).rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    if from_march < 10 { from_march + 3 } else { from_march - 9 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(clock: i64, column: &str) -> Option<f64> {
        Moment::from(clock).get(column, true).and_then(|cell| cell.as_number())
    }

    #[test]
    fn calendar() {
        // 29 February 2024, 23:59:59 UTC, a Thursday; a second later it is March, and Friday.
        let leap = 1_709_251_199;
        assert_eq!([at(leap, "hour"), at(leap, "weekday"), at(leap, "month")], [Some(23.0), Some(3.0), Some(2.0)]);
        let march = leap + 1;
        assert_eq!([at(march, "hour"), at(march, "weekday"), at(march, "month")], [Some(0.0), Some(4.0), Some(3.0)]);
        // 31 December 1969, 23:00, a Wednesday.
        assert_eq!(
            [at(-3_600, "hour"), at(-3_600, "weekday"), at(-3_600, "month")],
            [Some(23.0), Some(2.0), Some(12.0)]
        );
        for clock in [i64::MIN, i64::MAX] {
            assert!(at(clock, "month").is_some_and(|month| (1.0..=12.0).contains(&month)));
        }
    }

    #[test]
    fn a_position_has_no_hour() {
        assert_eq!(Moment::from(7).get("hour", false), None);
        assert_eq!(Moment { clock: 7, query: Some("tea") }.get("query", false), Cell::text("tea"));
        assert_eq!(Moment { clock: 7, query: Some("  ") }.get("query", true), None);
    }
}
