"""Where TSFA's choice from round to round brings it to a target earlier than one ratio for all rounds."""
