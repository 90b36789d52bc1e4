"""The operators' view: every table searchable, nothing edited behind the services' back, secrets never shown.

Rows change through actions that call the same services as everybody else and stand in the audit log.
"""

from django.contrib import admin
from django.contrib.auth.models import Group

from federations.admin import accounts, devices, federations, log, news, people
from federations.admin.looking import Looking, LookingOnly, asked

__all__ = ["Looking", "LookingOnly", "accounts", "asked", "devices", "federations", "log", "news", "people"]

admin.site.site_header = admin.site.site_title = "fedportal operations"
admin.site.index_title = "Tables"
# Groups are the roles of organizations and written by services only.
admin.site.unregister(Group)
