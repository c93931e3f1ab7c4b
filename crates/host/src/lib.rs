//! What runs beside the guests: attachments, metadata listeners, credential rotation, the sealed pocket of inborn run.
