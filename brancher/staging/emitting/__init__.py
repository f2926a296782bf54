"""C++ around what Inductor writes, and the compiler that turns it into a library."""
