"""Organizations, the people in them, and the keys with which programs act for people."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.apps import apps
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models, transaction

from fedportal.common import clock, ids


class Organization(models.Model):
    """A tenant: a hospital, a company. Every tenant row carries one."""

    public_id = models.CharField(max_length=32, unique=True, default=ids.org_id, editable=False)
    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    suspended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class PersonManager(BaseUserManager):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> Person:
        person: Person = self.model(email=self.normalize(email), **fields)
        person.set_password(password)
        person.save(using=self._db)
        return person

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> Person:
        """An operator, for whose address the one at the console vouches."""
        with transaction.atomic():
            person = self.create_user(email, password, is_staff=True, is_superuser=True, **fields)
            proven = apps.get_model("account", "EmailAddress").objects
            proven.create(user=person, email=person.email, verified=True, primary=True)
        return person

    def get_by_natural_key(self, email: str | None) -> Person:
        return self.get(email=self.normalize(email or ""))

    @staticmethod
    def normalize(email: str) -> str:
        """The one spelling under which an address is stored: trimmed and lower case."""
        return email.strip().lower()


class Person(AbstractBaseUser, PermissionsMixin):
    """Someone who signs in with an email address. Portal staff have `is_staff`."""

    public_id = models.CharField(max_length=32, unique=True, default=ids.usr_id, editable=False)
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=100, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    USERNAME_FIELD = "email"
    objects = PersonManager()

    class Meta:
        ordering = ["email"]
        verbose_name_plural = "people"

    def __str__(self) -> str:
        return self.name or self.email


class Role(StrEnum):
    """What a person is in an organization; `federations.roles` says what each may do."""

    OWNER = "owner"
    ADMIN = "admin"
    DATA_SCIENTIST = "data_scientist"
    DEVICE_OPERATOR = "device_operator"
    PRIVACY_OFFICER = "privacy_officer"
    AUDITOR = "auditor"
    VIEWER = "viewer"

    @property
    def label(self) -> str:
        """The role as a person reads it."""
        return self.value.replace("_", " ").capitalize()


ROLE_CHOICES = [(role.value, role.label) for role in Role]


class Membership(models.Model):
    """A person in an organization, with one role."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="memberships")
    person = models.ForeignKey(Person, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=ROLE_CHOICES)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ["organization_id", "person_id"]
        constraints = [models.UniqueConstraint(fields=["organization", "person"], name="one_membership_each")]

    def __str__(self) -> str:
        return f"{self.person} in {self.organization} ({self.role})"


class ApiKey(models.Model):
    """A key with which a program acts for a person in one organization; only its HMAC is stored.

    A key with the scope `devices:enroll` registers devices; `device_limit` says how many.
    """

    public_id = models.CharField(max_length=32, unique=True, default=ids.key_id, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="api_keys")
    person = models.ForeignKey(Person, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    lookup = models.CharField(max_length=8, unique=True, editable=False)  # the public part behind edg_
    secret_hash = models.CharField(max_length=64, editable=False)  # HMAC-SHA256, hexadecimal
    scopes = models.JSONField(default=list)
    device_limit = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} (edg_{self.lookup}…)"
