//! The moment itself: hour of day and day of week, as points on a circle so that 23:59 is next to 0:00.

use std::f64::consts::TAU;

const NAMES: [&str; 4] = ["hour.sin", "hour.cos", "weekday.sin", "weekday.cos"];
const DAY: i64 = 86_400;

/// Names of what [`write`] appends.
pub(super) fn names(real_times: bool) -> &'static [&'static str] {
    if real_times { &NAMES } else { &[] }
}

/// Appends the features of a moment in seconds since 1970 (UTC).
pub(super) fn write(real_times: bool, clock: i64, out: &mut Vec<f32>) {
    if !real_times {
        return;
    }
    let hour = clock.rem_euclid(DAY) as f64 / DAY as f64 * TAU;
    let weekday = clock.div_euclid(DAY).rem_euclid(7) as f64 / 7.0 * TAU;
    out.extend([hour.sin(), hour.cos(), weekday.sin(), weekday.cos()].map(|x| x as f32));
}
