//! Credentials derived from an epoch: mint, seal, open, cut off; stored nowhere.
