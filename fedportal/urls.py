"""Every address Django answers. The hot path (waiting, uploads, downloads) is answered before, in `fedportal.door`."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

urlpatterns = [
    path("api/v1/", include("federations.api.urls")),
    path("api/v1/", include("registry.api.urls")),
    path("api/v1/", include("training.api.urls")),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="api-docs"),
    path("admin/", admin.site.urls),
    path("", include("fedportal.sdk_delivery")),
    path("", include("federations.web.urls")),
    path("", include("registry.web.urls")),
    path("", include("training.web.urls")),
]
