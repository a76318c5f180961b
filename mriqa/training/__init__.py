"""What the training recipes share: options, launching, mixtures, validation, the head beside the policy."""
