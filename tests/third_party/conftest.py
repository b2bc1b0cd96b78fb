"""The parts here belong to another distribution: the tests install them, and never import them."""

collect_ignore = ["far_parts"]
