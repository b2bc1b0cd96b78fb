"""Transport blocks in slots: their sizes, how often they fail, and how they are sent again."""
