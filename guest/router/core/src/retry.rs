//! Whether and when a request is sent again.

use crate::config::Config;
use crate::headers::Headers;

/// Whether an answer of this status may be another one in a while.
pub(crate) fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 529)
}

/// How long to wait before trial number `retry`, from 0, in milliseconds; none when there is to be no
/// further one with this upstream.
///
/// `wait` is what the upstream asked for, in milliseconds; `chance` is any number.
pub(crate) fn pause(config: &Config, retry: u32, wait: Option<u64>, chance: u64) -> Option<u64> {
    if retry >= config.retries {
        return None;
    }
    match wait {
        Some(wait) => (wait <= config.max_retry_pause_ms).then_some(wait),
        None => {
            let pause =
                config.retry_pause_ms.saturating_mul(1 << retry.min(32)).min(config.max_retry_pause_ms);
            Some(pause / 2 + chance % (pause / 2 + 1))
        }
    }
}

/// What `retry-after` or `retry-after-ms` ask for, in milliseconds. A date is not understood: there is no
/// clock here that tells the time of day.
pub(crate) fn asked_for(headers: &Headers) -> Option<u64> {
    let number = |name| headers.first(name)?.trim().parse::<f64>().ok().filter(|number| *number >= 0.0);
    let seconds = || number("retry-after").map(|seconds| seconds * 1_000.0);
    // A cast to u64 takes what is too large for the largest there is; a part of a millisecond is one.
    let rounded_up = |wait: f64| (wait as u64).saturating_add(u64::from(wait > wait as u64 as f64));
    number("retry-after-ms").or_else(seconds).map(rounded_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_vary_by_half() {
        let config =
            Config { retries: 9, retry_pause_ms: 100, max_retry_pause_ms: 1_000, ..Config::default() };
        for (retry, longest) in [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1_000), (8, 1_000)] {
            assert_eq!(pause(&config, retry, None, 0), Some(longest / 2));
            assert_eq!(pause(&config, retry, None, longest / 2), Some(longest));
        }
        assert_eq!(pause(&config, 9, None, 0), None);
    }

    #[test]
    fn what_an_upstream_asks_for_is_waited_for_unless_it_is_too_long() {
        let config = Config { max_retry_pause_ms: 2_000, ..Config::default() };
        assert_eq!(pause(&config, 0, Some(2_000), 5), Some(2_000));
        assert_eq!(pause(&config, 0, Some(2_001), 5), None);
        let asked = |lines: &str| asked_for(&Headers::new(lines.into()));
        assert_eq!(asked("retry-after: 1.5\n"), Some(1_500));
        assert_eq!(asked("retry-after: 0.0001\n"), Some(1));
        assert_eq!(asked("Retry-After: 2\nretry-after-ms: 30\n"), Some(30));
        assert_eq!(asked("retry-after: Fri, 31 Dec 1999 23:59:59 GMT\n"), None);
        assert_eq!(asked("retry-after: -1\nretry-after-ms: NaN\n"), None);
        assert_eq!(asked("retry-after: 1e300\n"), Some(u64::MAX));
    }
}
