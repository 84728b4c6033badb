//! End-to-end tests: the real binary, real sockets, the library with the built-in sandbox.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::string_slice, missing_docs)]

mod architecture;
mod demo;
mod durable;
mod help;
mod hostile;
mod law;
mod lifecycle;
mod parity;
mod reload;
mod sdk;
mod support;
mod vector_source;
