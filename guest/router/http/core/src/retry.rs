//! Whether and when a request is sent again.

use crate::config::Config;

/// Whether an answer of this status may be another one in a while.
#[must_use]
pub fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 529)
}

/// How long to wait before trial number `retry`, from 0, in milliseconds; none when there is to be no
/// further one with this upstream.
///
/// `wait` is what the upstream asked for, in milliseconds; `chance` is any number.
#[must_use]
pub fn pause(config: &Config, retry: u32, wait: Option<u64>, chance: u64) -> Option<u64> {
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
#[must_use]
pub fn asked_for(retry_after: Option<&str>, retry_after_ms: Option<&str>) -> Option<u64> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number >= 0.0);
    let seconds = || retry_after.and_then(number).map(|seconds| seconds * 1_000.0);
    // A cast to u64 takes what is too large for the largest there is.
    retry_after_ms.and_then(number).or_else(seconds).map(|wait| wait.ceil() as u64)
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
        assert_eq!(asked_for(Some("1.5"), None), Some(1_500));
        assert_eq!(asked_for(Some("2"), Some("30")), Some(30));
        assert_eq!(asked_for(Some("Fri, 31 Dec 1999 23:59:59 GMT"), None), None);
        assert_eq!(asked_for(Some("-1"), Some("NaN")), None);
        assert_eq!(asked_for(Some("1e300"), None), Some(u64::MAX));
    }
}
