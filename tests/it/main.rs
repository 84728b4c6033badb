//! End-to-end tests: the real binary, real sockets, the library with the built-in sandbox.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::string_slice, missing_docs)]

mod architecture;
mod attacks;
mod behind_vector;
mod damage;
mod demo;
mod deployment;
mod disk_failing;
#[cfg(target_os = "linux")]
mod disk_full;
mod disk_lives;
mod durable;
mod embed;
mod faults;
mod help;
mod hostile;
mod http_source;
mod kills;
mod law;
mod lifecycle;
mod marker;
mod parity;
mod portability;
mod public_api;
mod reload;
mod replay;
mod sdk;
mod support;
mod v1;
mod vector_recipes;
mod vector_source;
