"""Pictures that one lesson draws. They are shipped, because its notebook imports them where only the package is installed."""
