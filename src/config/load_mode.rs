//! What a configuration is read for, which decides about references and secrets.

/// What a load is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMode {
    /// To run: secrets are resolved, and `customerio` must be there. Without a source there is the
    /// warning `no_source`, which means nothing to a program that has sources of its own.
    Full,
    /// To map or test: no secret is resolved (it is empty), and a reference outside of `filter`,
    /// `consent`, and `mapping` that cannot be resolved leaves the default.
    WithoutSecrets,
}
