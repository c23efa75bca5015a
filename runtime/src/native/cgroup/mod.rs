//! Limits and life cycle on cgroup 1 and 2, chosen per controller.
