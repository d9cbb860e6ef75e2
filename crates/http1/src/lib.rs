//! HTTP/1.1 for proxies, without I/O.
#![forbid(unsafe_code)]
