//! The AWS wire forms: awsQuery, ec2Query, awsJson 1.1, restJson, and every error dialect in one table.
