//! The client of keel-shim: start, adopt, console, exit record.
