//! The records that the platform's senders read, to the letter.

/// One record for a sender.
#[derive(Debug)]
pub struct Notification;
