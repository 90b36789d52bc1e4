"""The project package: settings, doors, and the floors below the apps."""
