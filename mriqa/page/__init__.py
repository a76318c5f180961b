"""`mriqa demo`: a page on which people drop pictures, compare their scores and watch a distortion move them."""
