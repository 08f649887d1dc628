"""The site: lessons and rooms as executed pages, the reference, the findings, the museum, and the pages for teachers."""
