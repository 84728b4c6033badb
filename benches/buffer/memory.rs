//! How much memory this process has used.

use std::time::Duration;

/// Returns the peak of resident memory in MB; 0 where the system does not tell.
pub fn peak_mb() -> u64 {
    status("VmHWM:") / 1024
}

/// Waits until resident memory has stopped growing.
pub async fn until_steady() {
    let (mut last, mut steady) = (0, 0);
    while steady < 20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = status("VmHWM:");
        steady = if now == last { steady + 1 } else { 0 };
        last = now;
    }
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
