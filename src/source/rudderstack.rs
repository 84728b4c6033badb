//! The RudderStack gateway (skeleton).
