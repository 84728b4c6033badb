//! `admin` and `log`: the process itself.

use std::net::SocketAddr;

use secrecy::SecretString;

use super::context::Context;
use super::declare::{Choice, choice, section};
use super::form::{Address, Nullable, Secret};
use super::tree::Node;
use crate::diagnostic::Diagnostic;

section! {
    /// The endpoints for health, metrics, and control.
    #[derive(Clone, Debug)]
    pub struct AdminConfig {
        /// Address to listen on: an IP address and a port.
        listen: SocketAddr as Address = "127.0.0.1:9797",
        /// Bearer token that requests must carry. Required if `listen` is not loopback.
        token: Option<SecretString> as Nullable<Secret> = "null",
    }
    checked by admin
}

section! {
    /// Messages on standard error.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LogConfig {
        /// Lowest level of this program's own messages. Its dependencies never log below `info`.
        level: LogLevel as Choice = "info",
        /// Form of the messages.
        format: LogFormat as Choice = "text",
    }
}

choice! {
    /// Lowest level of messages.
    pub enum LogLevel {
        /// What failed.
        Error = "error",
        /// And what may become a failure.
        Warn = "warn",
        /// And what an operator wants to know.
        Info = "info",
        /// And decisions, per batch or request.
        Debug = "debug",
        /// And their details.
        Trace = "trace",
    }
}

choice! {
    /// Form of messages.
    pub enum LogFormat {
        /// Lines for people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

/// Checks that strangers need a token.
fn admin(config: &AdminConfig, node: &Node, cx: &mut Context<'_>) {
    if !config.listen.ip().is_loopback() && config.token.is_none() {
        let message = "a token is required, since `listen` is not a loopback address";
        let fault = Diagnostic::error("token_required", message)
            .help("set admin.token, or listen on 127.0.0.1");
        cx.fault(node, "token", fault);
    }
}
