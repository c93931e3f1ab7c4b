//! AWS Signature Version 4 for servers: canonical request, verification, signing. No sockets, files or clocks.
