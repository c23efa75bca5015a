//! The numbers, as somebody reads them who comes by.

use super::*;

#[test]
fn numbers_tell_how_the_host_stands_and_what_was_done() {
    let bench = Bench::new(&[("one.yaml", &instance("one", "64MiB"))]);
    let (status, answer) =
        bench.raw("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    for line in [
        "keel_objects{source=\"edge\",kind=\"instance\",state=\"synced\"} 1",
        "keel_drift_objects{source=\"edge\",kind=\"instance\"} 0",
        "keel_object_health{source=\"edge\",kind=\"instance\",health=\"healthy\"} 1",
        "keel_source_settled{source=\"edge\"} 1",
        "keel_source_stopped{source=\"edge\"} 0",
        "keel_reconcile_total{source=\"edge\",result=\"settled\"} 1",
        "keel_reconcile_duration_seconds_count{source=\"edge\"} 1",
        "keel_steps_total{source=\"edge\",kind=\"storage-pool\",result=\"succeeded\"} 1",
        "keel_source_fetch_total{source=\"edge\",result=\"moved\"} 1",
    ] {
        assert!(answer.contains(&format!("{line}\n")), "{line}\n{answer}");
    }
    for begins in [
        "keel_last_success_timestamp_seconds{source=\"edge\"} 1",
        "keel_api_requests_total{method=\"GET\",route=\"/v1/status\",code=\"200\"} ",
        "process_resident_memory_bytes ",
    ] {
        assert!(answer.contains(begins), "{begins}\n{answer}");
    }
}
