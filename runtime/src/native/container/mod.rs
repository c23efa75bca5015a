//! The start path of unprivileged system containers.
