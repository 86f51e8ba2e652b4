//! By what each figure is told apart.

use prometheus_client::encoding::EncodeLabelSet;

/// An operation's kind and how it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Operation {
    pub kind: String,
    pub outcome: String,
}

/// An operation's kind and the step in which it has failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Failure {
    pub kind: String,
    pub step: String,
}

/// An operation's kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfKind {
    pub kind: String,
}

/// An operation's kind and what was done while its containers stood still.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Phase {
    pub kind: String,
    pub phase: String,
}

/// An operation's kind and what became of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Moved {
    pub kind: String,
    pub what: String,
}

/// The helper itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Build {
    pub version: String,
}
